"""The cache of digests and converted checkpoints: never another file's, never in the way."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hw1.core.errors import InputError
from hw1.core.preprocessing import Preprocessing
from hw1.models import cache, files
from hw1.models.checkpoints import keep_copies, load_state, read_checkpoint, save
from hw1.models.registry import CLASSIFIERS


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HW1_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "LEAST_BYTES", 1)
    monkeypatch.setattr(cache, "_SETTLED", -1)
    return tmp_path / "cache"


def state_of(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"a.weight": torch.rand(3, 4, generator=generator), "b": torch.arange(5)}


def same(found: dict[str, Tensor] | None, expected: dict[str, Tensor]) -> bool:
    return (
        found is not None
        and found.keys() == expected.keys()
        and all(torch.equal(found[name], each) for name, each in expected.items())
    )


def old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, Tensor]]:
    """A preset's checkpoint in torch's format, of a network of one layer; and what it holds."""
    monkeypatch.setitem(CLASSIFIERS, "vgg16", Tiny)
    path, state = folder / "vgg16-best.pth", Tiny().state_dict()
    torch.save(state, path)
    return path, state


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are hashed from now on."""
    hashed: list[Path] = []
    whole = files.file_digest

    def digest(path: Path) -> str:
        hashed.append(path)
        return whole(path)

    monkeypatch.setattr(files, "file_digest", digest)
    return hashed


def test_a_file_is_hashed_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(b"one")
    hashed = counted(monkeypatch)
    first = cache.digest_of(path)
    assert cache.digest_of(path) == first
    assert len(hashed) == 1
    status = path.stat()
    path.write_bytes(b"two")  # as long, and with the same time as before
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = cache.digest_of(path)
    assert (second != first, len(hashed)) == (True, 2)
    other = tmp_path / "b.pth"
    other.write_bytes(b"one")
    other.replace(path)
    assert cache.digest_of(path) == first


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "[1]", "3", '{"sha256": 4}'])
def test_an_odd_entry_is_no_entry(place: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(b"one")
    digest = cache.digest_of(path)
    (entry,) = (place / "digests").iterdir()
    entry.write_text(content)
    assert cache.digest_of(path) == digest


def test_a_file_that_has_just_changed_is_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_SETTLED", 3600 * 10**9)
    path = tmp_path / "a.pth"
    path.write_bytes(b"one")
    hashed = counted(monkeypatch)
    assert cache.digest_of(path) == cache.digest_of(path)
    assert len(hashed) == 2


class Tiny(nn.Module):
    """A vgg16 that costs nothing, in the registry's place of the real one."""

    def __init__(self, classes: int = 50) -> None:
        super().__init__()
        self.fc = nn.Linear(4, classes)


def test_an_old_file_is_unpickled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLASSIFIERS, "vgg16", Tiny)
    path = tmp_path / "vgg16-best.pth"
    torch.save({"state_dict": Tiny().state_dict()}, path)
    checkpoint = read_checkpoint(path)
    first = load_state(checkpoint)
    keep_copies([checkpoint])
    assert cache.has_converted(checkpoint.digest)
    with monkeypatch.context() as patch:
        patch.setattr(files, "_parse_torch", None)  # never again
        assert same(load_state(read_checkpoint(path)), first)
    other = Tiny().state_dict()  # other weights: another digest, another copy
    torch.save(other, path)
    assert same(load_state(read_checkpoint(path)), other)


@pytest.mark.parametrize("damage", ["cut", "flipped", "another's"])
def test_a_damaged_copy_is_taken_away(place: Path, damage: str) -> None:
    cache.keep_converted("d" * 64, state_of())
    assert same(cache.read_converted("d" * 64), state_of())
    copy = place / "converted/1" / f"{'d' * 64}.safetensors"
    content = copy.read_bytes()
    if damage == "another's":
        cache.keep_converted("e" * 64, state_of(1))
        copy.write_bytes((copy.with_name(f"{'e' * 64}.safetensors")).read_bytes())
    else:
        flipped = content[:-1] + bytes([content[-1] ^ 1])
        copy.write_bytes(content[:-9] if damage == "cut" else flipped)
    assert cache.read_converted("d" * 64) is None
    assert not copy.exists()


def test_a_copy_that_was_checked_is_mapped_until_it_changes_or_the_machine_was_off(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = "d" * 64
    monkeypatch.setattr(cache, "_boot", lambda: "one")
    cache.keep_converted(digest, state_of())
    mapped: list[Path] = []
    whole = files.mapped
    monkeypatch.setattr(files, "mapped", lambda path: (mapped.append(path), whole(path))[1])
    for expected in (1, 2):
        assert same(cache.read_converted(digest), state_of())
        assert len(mapped) == expected
    monkeypatch.setattr(cache, "_boot", lambda: "two")
    copy = place / "converted/1" / f"{digest}.safetensors"
    status, content = copy.stat(), copy.read_bytes()
    assert same(cache.read_converted(digest), state_of())
    assert len(mapped) == 2
    copy.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert cache.read_converted(digest) is None
    assert len(mapped) == 2


def test_machines_that_share_the_folder_keep_what_each_has_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(b"one")
    cache.keep_converted("d", state_of())
    identity, hashed = cache.identity, counted(monkeypatch)

    def on(machine: str, device: int) -> bool:
        """What one of them does; whether it mapped the copy."""
        mapped: list[Path] = []
        whole = files.mapped
        with monkeypatch.context() as patch:
            patch.setattr(cache, "_boot", lambda: machine)
            patch.setattr(cache, "identity", lambda path: {**identity(path), "device": device})
            patch.setattr(files, "mapped", lambda path: (mapped.append(path), whole(path))[1])
            cache.digest_of(path)
            assert same(cache.read_converted("d"), state_of())
        return bool(mapped)

    assert [on("one", 1), on("two", 2), on("one", 1), on("two", 2)] == [False, False, True, True]
    assert len(hashed) == 2


def test_without_the_kernels_word_a_copy_is_checked_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache, "_boot", lambda: "")
    cache.keep_converted("d", state_of())
    monkeypatch.setattr(files, "mapped", None)
    for _ in range(2):
        assert same(cache.read_converted("d"), state_of())


def test_a_copy_that_was_read_lately_stays_though_it_is_old(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_boot", lambda: "one")
    for age, name in enumerate("ab"):
        cache.keep_converted(name, state_of())
        os.utime(place / "converted/1" / f"{name}.safetensors", (1e9 + age, 1e9 + age))
    assert same(cache.read_converted("a"), state_of())
    size = (place / "converted/1" / "a.safetensors").stat().st_size
    monkeypatch.setattr(cache, "MOST_BYTES", 2 * size + size // 2)
    cache.keep_converted("c", state_of())
    assert [cache.has_converted(name) for name in "abc"] == [True, False, True]


def test_the_copies_that_were_used_last_stay(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_boot", lambda: "")  # nothing but times of files
    cache.keep_converted("a", state_of())
    size = (place / "converted/1" / "a.safetensors").stat().st_size
    monkeypatch.setattr(cache, "MOST_BYTES", 2 * size + size // 2)
    cache.keep_converted("b", state_of())
    for age, name in enumerate("ba"):
        os.utime(place / "converted/1" / f"{name}.safetensors", (1e9 + age, 1e9 + age))
    cache.keep_converted("c", state_of())
    assert [cache.has_converted(name) for name in "abc"] == [True, False, True]
    assert not list((place / "converted/1").glob(".*"))


def test_copies_of_another_conversion_are_not_read_and_leave_first(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.keep_converted("a", state_of())
    copy = place / "converted/1/a.safetensors"
    unversioned = place / "converted/a.safetensors"
    unversioned.write_bytes(copy.read_bytes())
    monkeypatch.setattr(cache, "_CONVERSION", 2)
    assert cache.read_converted("a") is None
    monkeypatch.setattr(cache, "MOST_BYTES", copy.stat().st_size * 3 // 2)
    for path in (copy, unversioned):
        os.utime(path, (1e9, 1e9))
    cache.keep_converted("a", state_of())
    assert cache.has_converted("a")
    assert not copy.exists()
    assert not unversioned.exists()


def test_digests_that_were_written_last_stay(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_boot", lambda: "")  # nothing but times of files
    monkeypatch.setattr(cache, "_MOST_DIGESTS", 2)
    digests = place / "digests"
    digests.mkdir(parents=True)
    for age, name in enumerate(("c.json", "a.json", "b.json", ".x.tmp")):
        (digests / name).write_text("{}")
        os.utime(digests / name, (1e9 + age, 1e9 + age))
    cache.keep_converted("a", state_of())
    assert sorted(path.name for path in digests.iterdir()) == ["a.json", "b.json"]


def test_many_processes_at_once_leave_a_whole_copy(place: Path) -> None:
    def once(_: int) -> bool:
        cache.keep_converted("d", state_of())
        return same(cache.read_converted("d"), state_of())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(once, range(40)))
    assert [path.name for path in (place / "converted/1").iterdir()] == ["d.safetensors"]


@pytest.mark.parametrize("kind", ["file", "none", "full", "too long"])
def test_without_a_cache_nothing_fails(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "file":
        place.write_text("no folder")
    elif kind in ("none", "too long"):
        monkeypatch.setenv("HW1_CACHE_DIR", "" if kind == "none" else f"/tmp/{'x' * 300}")
    else:
        monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: _Full())
    path = tmp_path / "a.pth"
    path.write_bytes(b"one")
    assert cache.digest_of(path) == files.file_digest(path)
    cache.keep_converted("d", state_of())
    assert not cache.has_converted("d")
    assert cache.read_converted("d") is None
    monkeypatch.setattr(cache, "LEAST_BYTES", 0)
    old, _ = old_file(tmp_path, monkeypatch)
    assert cache.is_lacking(read_checkpoint(old)) == (kind == "file")  # in nobody's way


class _Full:
    free = 0


def test_the_folder_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HW1_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "hw1"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache" / "hw1"


def test_what_was_written_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = old_file(tmp_path, monkeypatch)
    checkpoint = read_checkpoint(path)
    copies = cache.Copies([checkpoint])
    keep_copies([checkpoint])
    assert "converted copies of vgg16-best.pth lie in" in copies.written()
    again = cache.Copies([checkpoint])
    keep_copies([checkpoint])
    assert again.written() == ""


def test_a_file_that_has_gone_or_changed_leaves_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = old_file(tmp_path, monkeypatch)
    checkpoint = read_checkpoint(path)
    torch.save(Tiny().state_dict(), path)
    keep_copies([checkpoint])
    path.unlink()
    keep_copies([checkpoint])
    assert not cache.has_converted(checkpoint.digest)


def test_a_torch_file_under_another_suffix_is_read_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CLASSIFIERS, "vgg16", Tiny)
    path, state = tmp_path / "vgg16.safetensors", Tiny().state_dict()
    torch.save(state, path)
    for _ in range(2):
        assert same(load_state(read_checkpoint(path)), state)


def test_a_checkpoint_that_was_whole_is_not_hashed_again_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CLASSIFIERS, "vgg16", Tiny)
    path = tmp_path / "vgg16.safetensors"
    network = Tiny()
    save(network, path, "vgg16", Preprocessing(32), {})
    checkpoint = read_checkpoint(path)
    first = load_state(checkpoint)
    with monkeypatch.context() as patch:
        patch.setattr(files, "parse", None)  # never again
        assert same(load_state(checkpoint), first)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match="has changed"):
        load_state(checkpoint)


def test_an_old_file_whose_times_alone_change_as_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, state = old_file(tmp_path, monkeypatch)
    checkpoint = read_checkpoint(path)
    read = files.read_old

    def touched(path: Path) -> dict[str, Tensor]:
        found = read(path)
        path.chmod(0o600)
        return found

    monkeypatch.setattr(files, "read_old", touched)
    assert same(load_state(checkpoint), state)

    def replaced(path: Path) -> dict[str, Tensor]:
        torch.save(Tiny().state_dict(), path)
        return read(path)

    monkeypatch.setattr(files, "read_old", replaced)
    with pytest.raises(InputError, match="has changed"):
        load_state(checkpoint)


@pytest.mark.parametrize("why", ["no cache", "no room", "too large"])
def test_nothing_is_read_for_a_copy_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    path, _ = old_file(tmp_path, monkeypatch)
    checkpoint = read_checkpoint(path)
    if why == "no cache":
        monkeypatch.setenv("HW1_CACHE_DIR", "")
    elif why == "no room":
        monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: _Full())
    else:
        monkeypatch.setattr(cache, "MOST_BYTES", 8)
    monkeypatch.setattr(files, "read_old", None)
    keep_copies([checkpoint])
