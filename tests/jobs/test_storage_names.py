"""Names that a storage can't hold, or takes for one: refused in the plan, with both names."""

import errno
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes import write_grey
from hw1.core.errors import InputError
from tiny_jobs import COUNT, masks_of, segment


def folded(name: str) -> str:
    return name.casefold()


def normal(name: str) -> str:
    return unicodedata.normalize("NFD", name)


@pytest.fixture
def like(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], str]], None]:
    """Let the storage behave as FAT or HFS+ do where names are tried: one of a kind is all."""

    def behave(alike: Callable[[str], str]) -> None:
        touch, lexists, unlink = Path.touch, os.path.lexists, Path.unlink

        def kept(path: Path) -> Path:
            return (
                path.with_name(alike(path.name)) if path.parent.name.startswith(".hw1-") else path
            )

        def touched(path: Path, **words: bool) -> None:
            if path.parent.name.startswith(".hw1-") and ":" in path.name:
                raise OSError(errno.EINVAL, "Invalid argument", str(path))
            touch(kept(path), **words)

        monkeypatch.setattr(Path, "touch", touched)
        monkeypatch.setattr(Path, "unlink", lambda path, **words: unlink(kept(path), **words))
        monkeypatch.setattr(os.path, "lexists", lambda path: lexists(kept(Path(path))))

    return behave


Like = Callable[[Callable[[str], str]], None]


@pytest.mark.parametrize(
    ("alike", "first", "second"),
    [
        (folded, "a.png", "A.png"),
        (folded, "b/x.png", "B/x.png"),
        (folded, "stra\u00dfe.png", "STRASSE.png"),
        (normal, "\u00fc.png", "u\u0308.png"),
    ],
)
def test_names_that_the_storage_makes_one_are_refused_there_alone(
    images: Path, like: Like, alike: Callable[[str], str], first: str, second: str
) -> None:
    write_grey(images / first, 1)
    write_grey(images / second, 2)
    assert segment(masks_of(images, output=images.parent / "here")).scored == COUNT + 2
    like(alike)
    with pytest.raises(InputError, match="takes their names for one") as refused:
        segment(masks_of(images))
    assert all(ascii(name)[1:-1] in ascii(str(refused.value)) for name in (first, second))
    assert not (images.parent / "masks").exists()


def test_a_name_that_cannot_be_there_is_refused_with_the_way_out(images: Path, like: Like) -> None:
    write_grey(images / "12:30.png", 1)
    write_grey(images / "A.png", 1)
    like(folded)
    with pytest.raises(InputError, match=r"this name cannot be there: 12:30\.png.*--exclude"):
        segment(masks_of(images))
    assert not (images.parent / "masks").exists()
    assert segment(masks_of(images, exclude=("*:*",))).scored == COUNT + 1
