"""Finds the images that a person means: a file, a folder, a glob, a list."""

import errno
import fnmatch
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..core.errors import EnvironmentFault, InputError
from ..core.records import Planned
from .formats import HEAD_BYTES, SUFFIXES, UNREAD_SUFFIXES, format_of, suffix_of, unread_kind
from .lists import read_list
from .walk import Identity, identities, matches, may_hold_matches, split_glob, walk

_BY_SUFFIX: Final = SUFFIXES | UNREAD_SUFFIXES
_NOT_THERE: Final = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.EACCES,
    errno.EPERM,
)


@dataclass(frozen=True)
class Found:
    """What there is to do. Paths are ``root`` / image_id.

    ``images`` are sorted by the bytes of their image_id. ``ignored`` counts the files that were
    seen and are not planned: not an image, or left out by --include and --exclude. ``formats``
    counts the images, ``ignored_formats`` the others, by their suffix in lower case ("" where
    there is none).
    """

    root: Path
    images: list[Planned]
    ignored: int
    formats: dict[str, int]
    ignored_formats: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Filter:
    """--include and --exclude: globs on the whole image_id, whose ``*`` matches "/" too."""

    include: tuple[re.Pattern[str], ...]
    exclude: tuple[re.Pattern[str], ...]
    exclude_all_of: tuple[re.Pattern[str], ...]

    @classmethod
    def of(cls, include: Sequence[str], exclude: Sequence[str]) -> "_Filter":
        def compiled(globs: Iterable[str]) -> tuple[re.Pattern[str], ...]:
            return tuple(re.compile(fnmatch.translate(glob)) for glob in globs)

        open_ended = [glob for glob in exclude if glob.endswith("*")]
        return cls(compiled(include), compiled(exclude), compiled(open_ended))

    def takes(self, image_id: str) -> bool:
        if any(pattern.match(image_id) for pattern in self.exclude):
            return False
        return not self.include or any(pattern.match(image_id) for pattern in self.include)

    def enters(self, folder: str) -> bool:
        """Whether a folder need be listed: an exclude of "raw/*" leaves nothing of "raw"."""
        return not any(pattern.match(f"{folder}/") for pattern in self.exclude_all_of)


def find(
    source: str,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    skip: Sequence[Path] = (),
) -> Found:
    """List the images that ``source`` means, with their sizes and times of change.

    ``source`` is a file, a folder (with all below it, symbolic links followed), a glob (``*``,
    ``?``, ``[…]`` within a name, ``**`` across folders; it names files), ``@list.txt``, or ``@-``
    for a list on standard input. A file is an image by its suffix or its first bytes; one named
    on its own, or in a list, is planned whatever it is. Hidden files, job folders, the masks
    and overlays of other jobs and the paths of ``skip`` are never listed.

    Raises InputError where there is no such thing, nothing to do, a folder that may not be
    listed, or a list that cannot be used; EnvironmentFault where listing fails otherwise.
    """
    chosen = _Filter.of(include, exclude)
    if source.startswith("@"):
        found = _listed(source, chosen)
    else:
        found = _path(source, chosen, identities(skip))
    if not found.images:
        said = _nothing(found, source, filtered=bool(include or exclude))
        raise InputError(f"nothing to do in {source}: {said}")
    found.images.sort(key=lambda planned: os.fsencode(planned.image_id))
    return found


def _nothing(found: Found, source: str, *, filtered: bool) -> str:
    if not found.ignored:
        if source.startswith("@"):
            return "the list names no file"
        return f"no file is there (looked in {found.root})"
    one = found.ignored == 1
    said = "the one file is no image" if one else f"of {found.ignored} files none is an image"
    if found.ignored_formats:
        said += f" ({counted(found.ignored_formats)})"
    return said + (" that --include and --exclude leave" if filtered else "")


def counted(formats: Mapping[str, int], most: int = 8) -> str:
    """Files by their suffix, the most frequent first: ``.mov 3, .txt 1, no suffix 1``."""
    ranked = sorted(formats.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{suffix or 'no suffix'} {count}" for suffix, count in ranked[:most]]
    rest = sum(count for _, count in ranked[most:])
    return ", ".join(parts + ([f"others {rest}"] if rest else []))


def _listed(source: str, chosen: _Filter) -> Found:
    root, names = read_list(source[1:])
    images = [_planned(root, name) for name in names if chosen.takes(name)]
    formats = Counter(suffix_of(planned.image_id) for planned in images)
    others = Counter(map(suffix_of, names)) - formats
    return Found(root, images, others.total(), dict(formats), dict(others))


def _path(source: str, chosen: _Filter, skip: frozenset[Identity]) -> Found:
    path = Path(source).absolute()
    try:
        mode = path.stat().st_mode if source else 0
    except OSError as error:
        return _glob(source, chosen, skip, error)
    if stat.S_ISDIR(mode):
        return _collect(path, walk(path, chosen.enters, skip), chosen)
    if not stat.S_ISREG(mode):
        raise InputError(f"not a file or folder: {source!r}")
    if not chosen.takes(path.name):
        return Found(path.parent, [], 1, {})
    return Found(path.parent, [_planned(path.parent, path.name)], 0, {suffix_of(path.name): 1})


def _glob(source: str, chosen: _Filter, skip: frozenset[Identity], error: OSError) -> Found:
    folder, globs = split_glob(source)
    if "://" in source:
        raise InputError(
            f"{source}: expected a path, found an address; copy its files here, or mount them"
        ) from error
    if not globs:
        raise InputError(f"cannot read {source}: {error.strerror}") from error
    root = Path(folder).absolute()
    if not root.is_dir():
        raise InputError(f"no such folder: {folder} (of the glob {source})") from error

    def enters(path: str) -> bool:
        return may_hold_matches(path.split("/"), globs) and chosen.enters(path)

    entries = walk(root, enters, skip)
    return _collect(root, (e for e in entries if matches(e[0].split("/"), globs)), chosen)


def _collect(
    root: Path, entries: Iterable[tuple[str, "os.DirEntry[str]"]], chosen: _Filter
) -> Found:
    images: list[Planned] = []
    formats: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for image_id, entry in entries:
        suffix = suffix_of(entry.name)
        planned = _planned_entry(image_id, entry, suffix) if chosen.takes(image_id) else None
        if planned is None:
            others[suffix] += 1
        else:
            images.append(planned)
            formats[suffix] += 1
    return Found(root, images, others.total(), dict(formats), dict(others))


def _planned_entry(image_id: str, entry: "os.DirEntry[str]", suffix: str) -> Planned | None:
    """The file as it is now, if it is an image.

    A link to nothing is planned too where its suffix is an image's: it will be rejected, not
    overlooked. What is neither file nor folder is no image: opening a FIFO may wait for ever.
    """
    try:
        status = entry.stat()
    except OSError as error:
        _raise_unless_not_there(error, entry.path)
        return Planned(image_id, -1, -1) if suffix in _BY_SUFFIX else None
    if not stat.S_ISREG(status.st_mode):
        return None
    if suffix not in _BY_SUFFIX and not _has_image_content(entry.path):
        return None
    return Planned(image_id, status.st_size, status.st_mtime_ns)


def _has_image_content(path: str) -> bool:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  (Path costs more than this)
            head = file.read(HEAD_BYTES)
    except OSError as error:
        _raise_unless_not_there(error, path)
        return False
    return format_of(head) is not None or unread_kind(head, "") is not None


def _planned(root: Path, name: str) -> Planned:
    try:
        status = os.stat(f"{root}/{name}")  # noqa: PTH116  (Path costs more than this)
    except OSError as error:
        _raise_unless_not_there(error, name)
        return Planned(name, -1, -1)
    return Planned(name, status.st_size, status.st_mtime_ns)


def _raise_unless_not_there(error: OSError, path: str) -> None:
    """Go on where a file is gone or forbidden; a fault of the file system ends the listing."""
    if error.errno not in _NOT_THERE:
        raise EnvironmentFault(f"cannot look at {path}: {error.strerror}") from error
