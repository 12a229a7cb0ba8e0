"""Checkpoint files: every format that is read, and everything that is refused, unexecuted."""

import io
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hw1.core.errors import InputError
from hw1.models import files
from hw1.models.checkpoints import load, read_checkpoint
from hw1.models.importing import Given, import_checkpoint

FILE = Path("some.pth")
STATE = {
    "a.weight": torch.arange(12.0).view(3, 4),
    "a.bias": torch.ones(3, dtype=torch.float16),
    "n.num_batches_tracked": torch.tensor(7),
}


def saved(content: Any, *, old: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)
        for name, tensor in expected.items()
    )


@pytest.mark.parametrize("old", [True, False], ids=["old", "zip"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("nested", [True, False])
def test_what_torch_saved_is_read(old: bool, prefix: str, nested: bool) -> None:
    state: dict[str, Any] = {prefix + name: tensor for name, tensor in STATE.items()}
    content = {"epoch": 3, "arch": "x", "best": 0.5, "state_dict": state} if nested else state
    found, metadata = files.parse(saved(content, old=old), FILE)
    assert same(found, STATE)
    assert metadata == {}


def test_parameters_are_read_as_tensors_without_gradients() -> None:
    state = dict(nn.Linear(2, 2).state_dict(keep_vars=True))
    found, _ = files.parse(saved(state, old=True), FILE)
    assert not any(tensor.requires_grad for tensor in found.values())


def test_safetensors_is_read_whatever_the_suffix() -> None:
    found, metadata = files.parse(safetensors.torch.save(STATE, {"member": "vgg16"}), FILE)
    assert same(found, STATE)
    assert metadata == {"member": "vgg16"}


def test_what_is_written_is_read_and_reproducible(tmp_path: Path) -> None:
    metadata = {f"key {i}": f"value {i} ü" for i in range(20)}
    state = {**STATE, "turned": STATE["a.weight"].T}
    for name in ("one", "two"):
        files.write(state, tmp_path / name, metadata)
    content = (tmp_path / "one").read_bytes()
    assert content == (tmp_path / "two").read_bytes()
    found, read = files.parse(content, tmp_path / "one")
    assert same(found, state)
    assert read == metadata
    assert files.read_metadata(tmp_path / "one") == metadata
    with safetensors.safe_open(tmp_path / "one", "pt") as library:
        assert library.metadata() == metadata


def test_a_header_of_any_length_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    files.write({"w": torch.zeros(2)}, path, {"recipe": ""})
    least = int.from_bytes(path.read_bytes()[:8], "little")
    for begin in (b"\x80\1", b"PK"):  # as torch's formats do
        about = {"recipe": "x" * (int.from_bytes(begin, "little") - least)}
        files.write({"w": torch.zeros(2)}, path, about)
        content = path.read_bytes()
        assert content.startswith(begin)
        assert files.read_metadata(path) == about
        assert files.parse(content, path)[1] == about


def test_names_that_share_their_tensor_are_written_apart(tmp_path: Path) -> None:
    tied = torch.arange(6.0)
    state = {"one": tied, "other": tied, "part": tied[2:], "turned": tied.view(2, 3).T}
    files.write(state, tmp_path / "x", {})
    found, _ = files.parse((tmp_path / "x").read_bytes(), tmp_path / "x")
    assert same(found, state)


class Evil:
    """Pickled, it is a call: whoever unpickles it makes the marker's folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def evil_files(marker: Path) -> dict[str, bytes]:
    evil = Evil(marker)
    return {
        "old": saved(evil, old=True),
        "zip": saved(evil, old=False),
        "old, in a state dict": saved({"state_dict": {**STATE, "x": evil}}, old=True),
        "zip, in a state dict": saved({"state_dict": STATE, "extra": [evil]}, old=False),
        **{f"bare, protocol {n}": pickle.dumps(evil, protocol=n) for n in range(6)},
    }


@pytest.mark.parametrize("kind", evil_files(Path("unused")))
def test_no_pickle_is_ever_executed(kind: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    content = evil_files(marker)[kind]
    with pytest.raises(InputError, match=r"some\.pth") as caught:
        files.parse(content, FILE)
    assert not marker.exists()
    assert "weights_only=False" not in str(caught.value)
    if not kind.startswith("bare"):
        assert "more than tensors (posix.mkdir)" in str(caught.value)


def test_the_pickle_of_that_test_is_dangerous(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    pickle.loads(evil_files(marker)["bare, protocol 2"])
    assert marker.exists()


def test_a_whole_network_is_refused() -> None:
    with pytest.raises(InputError, match=r"torch\.nn\.modules\.linear\.Linear"):
        files.parse(saved(nn.Linear(2, 2), old=True), FILE)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".onnx"])
def test_a_pointer_of_git_lfs_is_told_from_damage(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "in" / f"vgg16{suffix}"
    path.parent.mkdir()
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(InputError, match="a pointer of Git LFS, not the file itself: git lfs pull"):
        load(read_checkpoint(path))
    with pytest.raises(InputError, match="a pointer of Git LFS, not the file itself: git lfs pull"):
        import_checkpoint(path, tmp_path, Given())


def test_torchscript_is_refused() -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    with pytest.raises(InputError, match="TorchScript"):
        files.parse(buffer.getvalue(), FILE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "found nothing"),
        ([1, 2], "found a list"),
        (torch.ones(2), "found a Tensor"),
        ({"a": 1.5}, "'a', a float"),
        ({1: torch.ones(2)}, "1, a Tensor"),
        ({"state_dict": {"a": torch.ones(2), "b": None}}, "'b', a NoneType"),
        ({"a": torch.ones(2).to_sparse()}, "a is not a dense tensor"),
        ({"a": torch.ones(2, device="meta")}, "a is not a dense tensor"),
    ],
)
def test_other_contents_are_refused(content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        files.parse(saved(content, old=False), FILE)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0",
        b"{}",
        b"<html>not found</html>",
        b"PK\x03\x04",
        b"\x80\x02",
        b"\x05\0\0\0\0\0\0\0{x",
        b"\xff" * 8 + b"{",
        os.urandom(5000),
        bytes(5000),
    ],
)
def test_garbage_is_refused_in_a_line_or_two(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"some\.pth") as caught:
        files.parse(content, FILE)
    assert len(str(caught.value)) < 350
    assert "\n" not in str(caught.value)


WHOLE = [saved({"state_dict": STATE}, old=True), saved(STATE, old=False)]
WHOLE.append(safetensors.torch.save(STATE, {"member": "vgg16"}))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_files_are_refused_or_read(data: st.DataObject) -> None:
    """A truncated file is refused; one with other bytes too, or it gives tensors by name."""
    content = bytearray(data.draw(st.sampled_from(WHOLE)))
    if data.draw(st.booleans()):
        length = data.draw(st.integers(0, len(content) - 1))
        with pytest.raises(InputError):
            files.parse(bytes(content[:length]), FILE)
        return
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
        content[place] = data.draw(st.integers(0, 255))
    try:
        state, _ = files.parse(bytes(content), FILE)
    except InputError:
        return
    assert all(isinstance(tensor, Tensor) for tensor in state.values())


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        files.read_bytes(tmp_path / "none.pth")
    with pytest.raises(InputError, match="Is a directory"):
        files.file_digest(tmp_path)
    with pytest.raises(InputError, match="File name too long"):
        files.file_digest(tmp_path / ("n" * 300))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Not a directory"):
        files.read_metadata(tmp_path / "file" / "x")


def test_a_damaged_header_says_so(tmp_path: Path) -> None:
    for header in (b'{"__metadata__": {"a": ', b'{"__metadata__": 3}', b"{" * 3000):
        path = tmp_path / "x.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        with pytest.raises(InputError, match="damaged"):
            files.read_metadata(path)


def test_a_few_bytes_are_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for content in (b"", b"x", b"\x08\0\0"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a.safetensors is damaged"):
            files.read_metadata(path)


def test_torch_files_have_no_metadata(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(WHOLE[0])
    assert files.read_metadata(tmp_path / "x.pth") == {}
    (tmp_path / "x.pth").write_bytes(b"")
    assert files.read_metadata(tmp_path / "x.pth") == {}
