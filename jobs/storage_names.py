"""Whether a storage can hold the outputs' names, and tells them apart: tried, not guessed."""

import os
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..core.errors import InputError
from ..core.text import shown, some

_SPECIAL: Final = frozenset(':?*"<>|\\') | frozenset(map(chr, range(1, 32)))
"""What FAT, NTFS and SMB don't have in names."""


def check_storage(place: Path, outputs: Mapping[str, str], way_out: str = "--exclude") -> None:
    """Raise InputError where ``place`` can't hold an output's name, or makes two of them one.

    ``outputs`` are relative paths by image_id. Only names that differ in case or in their Unicode
    form, and those with letters that some storage refuses, are tried, in a folder made for it.
    """
    alike = list(_alike(outputs))
    odd = _odd(outputs)
    if not alike and not odd:
        return
    with _trial(place) as trial:
        bad = [image_id for image_id, part in odd if not trial.holds(part)]
        if bad:
            raise InputError(
                f"{place}: {'these names' if len(bad) > 1 else 'this name'} cannot be there: "
                f"{some(bad)}; leave them out with {way_out}, or give a folder on other storage"
            )
        for first, second in alike:
            if trial.is_one(outputs[first], outputs[second]):
                raise InputError(
                    f"{shown(first)} and {shown(second)} would both be written to "
                    f"{shown(outputs[second])}, since the storage of {place} takes their names "
                    f"for one: rename one, leave it out with {way_out}, or give a folder on "
                    "other storage"
                )


def _alike(outputs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Images whose outputs some storage would make one."""
    seen: dict[str, str] = {}
    for image_id, output in outputs.items():
        earlier = seen.setdefault(_folded(output), image_id)
        if earlier != image_id:
            yield earlier, image_id


def _folded(name: str) -> str:
    return name.lower() if name.isascii() else unicodedata.normalize("NFKC", name).casefold()


def _odd(outputs: Mapping[str, str]) -> list[tuple[str, str]]:
    """Images with a name that some storage refuses, and the part of the path that it is.

    One try tells for all that have the same letters of that kind.
    """
    return [
        (image_id, part)
        for image_id, output in outputs.items()
        for part in output.split("/")
        if _kind(part)
    ]


def _kind(part: str) -> str:
    """The letters of a name that some storage refuses, and whether it isn't UTF-8."""
    odd = "".join(sorted(_SPECIAL.intersection(part)))
    if part.endswith((".", " ")):
        odd += part[-1] + "$"
    return odd + ("" if part.isascii() or _is_utf8(part) else "bytes")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Trial:
    """A folder to try names in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, bool] = {}

    def holds(self, name: str) -> bool:
        """Whether a file can have the name."""
        kind = _kind(name)
        if kind not in self._known:
            self._known[kind] = self._made(name)
        return self._known[kind]

    def is_one(self, first: str, second: str) -> bool:
        """Whether two relative paths name one file."""
        pairs = zip(first.split("/"), second.split("/"), strict=False)
        return all(a == b or self._same(a, b) for a, b in pairs)

    def _same(self, first: str, second: str) -> bool:
        if not self._made(first):
            return False
        with _removed(self._folder / first):
            return os.path.lexists(self._folder / second)

    def _made(self, name: str) -> bool:
        try:
            (self._folder / name).touch(exist_ok=True)
        except OSError:
            return False
        return True


@contextmanager
def _removed(path: Path) -> Iterator[None]:
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _trial(place: Path) -> Iterator[Trial]:
    """A folder for trials on the storage where ``place`` is, or will be."""
    while not place.is_dir():
        place = place.parent
    with tempfile.TemporaryDirectory(prefix=".hw1-", dir=place) as folder:
        yield Trial(Path(folder))
