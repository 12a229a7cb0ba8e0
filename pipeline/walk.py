"""Lists a folder and all below it, whatever is in it: symbolic links in circles, job folders."""

import fnmatch
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from ..core.errors import EnvironmentFault, InputError

Identity = tuple[int, int]
"""A file or folder, whatever its name: device and inode."""

_JOB_FILE: Final = "job.json"
_JOB_FOLDER: Final = ".job"
OVERLAY_MARK: Final = ".hw1-overlay"
"""A file in a folder of overlays: by it they are known, and not taken for photos."""


def identities(paths: Sequence[Path]) -> frozenset[Identity]:
    """What those of the paths that exist are."""
    found = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((status.st_dev, status.st_ino))
    return frozenset(found)


def walk(
    root: Path, enters: Callable[[str], bool], skip: frozenset[Identity]
) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Yield everything below a folder that is not a folder: its path relative to it, its entry.

    Left out: hidden names, what ``skip`` holds, job folders, folders of masks (they hold a job
    folder) or overlays (OVERLAY_MARK), and folders that ``enters``, given their relative path,
    says no to. Symbolic links to folders are followed, but not to a folder that the link itself
    lies in: such circles end there. Raises InputError for a folder that may not be listed, and
    EnvironmentFault where listing fails for another reason: nothing is left out silently.
    """
    status = root.stat()
    pending: list[tuple[str, tuple[Identity, ...]]] = [("", ((status.st_dev, status.st_ino),))]
    while pending:
        prefix, chain = pending.pop()
        for entry in _entries(root, prefix):
            if entry.name.startswith("."):
                continue
            path = prefix + entry.name
            if not _is_folder(entry):
                if not (skip and _is_skipped(entry, skip)):
                    yield path, entry
            elif enters(path):
                identity = _enterable(entry, chain, skip)
                if identity is not None:
                    pending.append((f"{path}/", (*chain, identity)))


def _entries(root: Path, prefix: str) -> Iterator["os.DirEntry[str]"]:
    folder = f"{root}/{prefix}"
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except PermissionError as error:
        raise InputError(
            f"cannot list the folder {folder}: {error.strerror};"
            f" allow it, or leave it out with --exclude '{prefix}*'"
        ) from error
    except FileNotFoundError:  # removed since its parent was listed
        return
    except OSError as error:
        raise EnvironmentFault(f"cannot list the folder {folder}: {error.strerror}") from error


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or into what may not be looked at
        return False


def _is_skipped(entry: "os.DirEntry[str]", skip: frozenset[Identity]) -> bool:
    try:
        status = entry.stat()
    except OSError:
        return False
    return (status.st_dev, status.st_ino) in skip


def _enterable(
    entry: "os.DirEntry[str]", chain: tuple[Identity, ...], skip: frozenset[Identity]
) -> Identity | None:
    """What the folder is; None where it is not to be entered."""
    try:
        status = entry.stat()
    except OSError:  # removed meanwhile
        return None
    identity = (status.st_dev, status.st_ino)
    if identity in skip or (entry.is_symlink() and identity in chain):
        return None
    is_job = entry.name.endswith(_JOB_FOLDER) and _exists(f"{entry.path}/{_JOB_FILE}")
    is_masks = _exists(f"{entry.path}/{_JOB_FOLDER}/{_JOB_FILE}")
    is_overlay = _exists(f"{entry.path}/{OVERLAY_MARK}")
    return None if is_job or is_masks or is_overlay else identity


def _exists(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:
        return False


def split_glob(source: str) -> tuple[str, list[str]]:
    """A glob as the folder before its first wildcard and the names below it; [] for no glob."""
    first = next((at for at, letter in enumerate(source) if letter in "*?["), None)
    if first is None:
        return source, []
    folder, slash, _ = source[:first].rpartition("/")
    return folder or slash or ".", [p for p in source[len(folder) :].split("/") if p]


def matches(names: Sequence[str], globs: Sequence[str]) -> bool:
    """Whether a file's path, split at "/", is one that the glob means; ``**``: any folders."""
    if not globs:
        return not names
    if globs[0] == "**" and matches(names, globs[1:]):
        return True
    if not names:
        return False
    if globs[0] == "**":
        return matches(names[1:], globs)
    return fnmatch.fnmatchcase(names[0], globs[0]) and matches(names[1:], globs[1:])


def may_hold_matches(names: Sequence[str], globs: Sequence[str]) -> bool:
    """Whether a folder, its path split at "/", can have files below it that the glob means."""
    if not globs:
        return False
    if not names or globs[0] == "**":
        return True
    return fnmatch.fnmatchcase(names[0], globs[0]) and may_hold_matches(names[1:], globs[1:])
