"""What machines show of themselves, without Ray."""

import dataclasses
import os
from pathlib import Path

import pytest
from PIL import Image

from hw1.core.records import Planned
from hw1.execution import proof
from hw1.execution.proof import NOTHING, Proof, differences, prove, sight


@pytest.fixture(scope="module")
def ours() -> Proof:
    return prove(NOTHING)


def test_a_machine_that_is_alike_has_no_difference(ours: Proof) -> None:
    assert differences(ours, dataclasses.replace(prove(NOTHING), machine="another")) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hw1": "0.0.9"}, "it has hw1 0.0.9, not "),
        ({"code": "0" * 64}, "has other code"),
        ({"pixels": "0" * 64}, "decodes a test image to other pixels"),
    ],
)
def test_what_is_unlike_is_named(ours: Proof, change: dict[str, str], said: str) -> None:
    assert said in differences(ours, dataclasses.replace(ours, **change))


def test_packages_are_named_with_both_versions(ours: Proof) -> None:
    ((_, here), *rest) = ours.packages
    found = dataclasses.replace(ours, packages=(("pillow", "1.0"), *rest))
    assert differences(ours, found) == f"it has pillow 1.0, not {here}"


def test_another_resize_shows_in_the_pixels(ours: Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    resize = Image.Image.resize

    def other(self: Image.Image, size: tuple[int, int], *_: object) -> Image.Image:
        return resize(self, size, Image.Resampling.BOX)

    monkeypatch.setattr(Image.Image, "resize", other)
    assert "other pixels" in differences(ours, prove(NOTHING))


def test_code_is_compared_by_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "__init__.py").touch()
    (tmp_path / "a.py").write_text("a = 1")
    before = proof._code(tmp_path)
    (tmp_path / "notes.txt").write_text("not code")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("no part of the package")
    assert proof._code(tmp_path) == before
    (tmp_path / "deep" / "b.py").write_text("")
    changed = proof._code(tmp_path)
    (tmp_path / "a.py").write_text("a = 2")
    assert len({before, changed, proof._code(tmp_path)}) == 3


def test_in_and_out_have_to_be_in_sight(ours: Proof, tmp_path: Path) -> None:
    root, job = tmp_path / "in", tmp_path / "out"
    root.mkdir()
    job.mkdir()
    (root / "a.png").write_bytes(b"12")
    images = [Planned(name, 2, 0) for name in ("a.png", "gone.png")]
    with sight(root, images, [job]) as shown:
        here = prove(shown)
        assert differences(here, prove(shown)) == ""
        os.utime(root / "a.png", ns=(0, 0))
        assert f"{root / 'a.png'} is there: 2 bytes of 0.0" in differences(here, prove(shown))
        root.rename(tmp_path / "unmounted")
        assert "is there: No such file or directory; here: 2 bytes" in differences(
            here, prove(shown)
        )
        (tmp_path / "unmounted").rename(root)
        here = prove(shown)
        job.rename(tmp_path / "other")
        job.mkdir()  # a folder of the same name, which nobody else sees
        assert f"{job} is there: another folder, or none" in differences(here, prove(shown))
        job.rmdir()
        (tmp_path / "other").rename(job)
    assert not list(job.iterdir())
