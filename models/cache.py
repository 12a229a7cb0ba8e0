"""What a start needn't do twice: digests of checkpoints, and old ones converted. Safe to delete.

The folder is ``HW1_CACHE_DIR`` (empty: none), else ``hw1`` in the user's cache folder, as XDG has
it.

- ``digests/``: the SHA-256 of a file, kept by its path, size, times of change, inode and device.
  The times are the file system's to the ns, and ctime can't be set by hand: a file that was written
  since is hashed again. And that its tensors were found to be whole, until the machine restarts.
  Machines that share the folder don't share these: a device's number, too, is a machine's own.
- ``converted/1/DIGEST.safetensors``: the tensors of a file in one of torch's formats, which takes
  long to unpickle, under that file's digest. So a changed file has another copy. 1 is the version
  of the conversion. A copy's own digest is checked when it is read, and then kept as above: while
  the copy stays as it was, it is mapped into memory, which costs nothing.

Several processes may use it at once: files appear whole, under their names. Where it can't be read
or written, there is no cache, and nothing fails.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from ..core.errors import EnvironmentFault, InputError
from ..core.user import user_folder
from . import files
from .metadata import tensors_digest

if TYPE_CHECKING:
    from torch import Tensor

    from .checkpoints import Checkpoint

VARIABLE: Final = "HW1_CACHE_DIR"

MOST_BYTES: Final = 5 * 2**30
"""Of all converted copies: those that were used last stay. The reference's eight take 2.3 GiB."""

LEAST_BYTES: Final = 2**20
"""A smaller file is hashed and read in no time."""

_CONVERSION: Final = 1
"""Raise it where `wrappers` makes other names or tensors of a file than before: its copies are then
made again, and the old ones, which nobody uses any more, go first where there is no room."""

_MOST_DIGESTS: Final = 10_000
"""Files whose digests are kept, those that were hashed last."""

_SETTLED: Final = 2 * 10**9
"""ns: a file that changed so lately may change again within its time stamp's grain."""

_WHOLE: Final = "\0whole"
"""Of an entry for a file whose tensors were checked too; no path has a NUL."""

_LEFT_BEHIND: Final = 24 * 3600
"""Seconds after which a temporary file is a killed process's."""


def folder() -> Path | None:
    """Where the cache is; None for nowhere."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named).absolute() if named else None
    base = user_folder("XDG_CACHE_HOME", ".cache")
    return base / "hw1" if base else None


def digest_of(path: Path) -> str:
    """A file's SHA-256, read from it or known. Raises as ``files.file_digest`` does."""
    before = identity(path)
    place = folder()
    if place is None or before is None or before["size"] < LEAST_BYTES:
        return files.file_digest(path)
    entry = _entry(place, path, before)
    if known := _known(entry, before):
        return known
    digest = files.file_digest(path)
    _note(entry, path, before, digest)
    return digest


def was_whole(path: Path, digest: str) -> bool:
    """Whether the file, as it is now, was found to hold what its digests tell: see `note_whole`."""
    place, before, boot = folder(), identity(path), _boot()
    if place is None or before is None or not boot:
        return False
    seen: dict[str, int | str] = {**before, "boot": boot}
    return _known(_entry(place, path, seen, _WHOLE), seen) == digest


def note_whole(path: Path, before: "dict[str, int] | None", digest: str) -> None:
    """Keep that the bytes of a file, and its tensors, were checked, until the machine restarts."""
    place, boot = folder(), _boot()
    if place is not None and before is not None and boot and before["size"] >= LEAST_BYTES:
        seen: dict[str, int | str] = {**before, "boot": boot}
        _note(_entry(place, path, seen, _WHOLE), path, before, digest, boot=boot)


def _entry(place: Path, path: Path, seen: "Mapping[str, int | str]", kind: str = "") -> Path:
    """Of a file as this machine sees it: another's boot and device number have an entry too."""
    machine = hashlib.sha256(f"{seen['device']} {seen.get('boot')}".encode()).hexdigest()[:8]
    return place / "digests" / f"{_stem(path, kind)}-{machine}.json"


def _stem(path: Path, kind: str = "") -> str:
    return hashlib.sha256(os.fsencode(path) + kind.encode()).hexdigest()[:32]


def _known(entry: Path, as_it_is: "Mapping[str, int | str]") -> str:
    """The digest that was found when the file was what it is now; "" where none is known."""
    with suppress(OSError, ValueError, AttributeError, KeyError, TypeError):
        known = json.loads(entry.read_text())
        digest = known.pop("sha256")
        if known == as_it_is and isinstance(digest, str) and len(digest) == 64:
            return digest
    return ""


def _note(entry: Path, path: Path, before: "dict[str, int]", digest: str, **more: str) -> None:
    """Keep a digest for the next time, unless the file may have changed as it was read."""
    if identity(path) == before and time.time_ns() - before["ctime_ns"] > _SETTLED:
        with suppress(OSError):
            _write(entry, [json.dumps({**before, **more, "sha256": digest}).encode()])


def _boot() -> str:
    """What the kernel calls the time since this machine was started; "" where it doesn't tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def identity(path: Path) -> "dict[str, int] | None":
    """What changes where a file is written to or replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return {
        "size": found.st_size,
        "mtime_ns": found.st_mtime_ns,
        "ctime_ns": found.st_ctime_ns,
        "inode": found.st_ino,
        "device": found.st_dev,
    }


def has_converted(digest: str) -> bool:
    """Whether there is a converted copy of the file with this digest."""
    path = _copy(digest)
    with suppress(OSError):
        return path is not None and path.is_file()
    return False


def is_lacking(checkpoint: "Checkpoint") -> bool:
    """Whether a copy of the checkpoint's file would help, isn't there, and can be made."""
    place, size = folder(), checkpoint.bytes
    helps = checkpoint.is_old and LEAST_BYTES <= size <= MOST_BYTES
    if place is None or not helps or has_converted(checkpoint.digest):
        return False
    try:
        above = next(each for each in (place, *place.parents) if each.exists())
        return os.access(above, os.W_OK) and shutil.disk_usage(above).free >= 2 * size
    except OSError:
        return False


def read_converted(digest: str) -> "dict[str, Tensor] | None":
    """The tensors of the file with this digest, where a converted copy is there, whole."""
    place, path = folder(), _copy(digest)
    if place is None or path is None or (before := identity(path)) is None:
        return None
    boot = _boot()
    seen: dict[str, int | str] = {**before, "boot": boot}
    entry = _entry(place, path, seen)
    try:
        # A power cut may take the bytes, which aren't fsynced, of a file that looks as before.
        known = boot and _known(entry, seen)
        if known and files.read_metadata(path) == {"digest": known, "source": digest}:
            with suppress(OSError):
                os.utime(entry)  # used last
            return files.mapped(path)
        state, metadata = files.parse(path.read_bytes(), path)
        found = tensors_digest(state)
        if metadata == {"digest": found, "source": digest}:
            _note(entry, path, before, found, boot=boot)
            return state
    except (OSError, InputError):
        pass
    with suppress(OSError):
        path.unlink()
    return None


def keep_converted(digest: str, state: "Mapping[str, Tensor]") -> None:
    """Keep a file's tensors, if there is room."""
    place, path = folder(), _copy(digest)
    size = sum(tensor.nbytes for tensor in state.values())
    if place is None or path is None or not LEAST_BYTES <= size <= MOST_BYTES:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free < 2 * size:
            return
        about = {"source": digest, "digest": tensors_digest(state)}
        _write(path, files.content_of(state, about))
        if (boot := _boot()) and (found := identity(path)) is not None:
            seen: dict[str, int | str] = {**found, "boot": boot}
            content = json.dumps({**seen, "sha256": about["digest"]}).encode()
            _write(_entry(place, path, seen), [content])
        _make_room(path.parent)
    except (OSError, EnvironmentFault, ValueError, RuntimeError, TypeError, MemoryError):
        pass  # a full disk or memory, another's folder, a dtype that safetensors lacks


def _copy(digest: str) -> Path | None:
    place = folder()
    if place is None:
        return None
    return place / "converted" / str(_CONVERSION) / f"{digest}.safetensors"


def _write(path: Path, parts: Iterable[bytes]) -> None:
    """Whole or not at all. Not fsynced: what a power cut tears is found out, and made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _make_room(copies: Path) -> None:
    """Remove the copies that were used longest ago, digests, and what killed processes left."""
    place = copies.parent.parent
    digests = place / "digests"
    for path in (*copies.glob(".*.tmp"), *digests.glob(".*.tmp")):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFT_BEHIND:
                path.unlink()

    def used(copy: Path) -> int:
        """When a copy was read or made; its own times aren't touched, which its digest hangs on."""
        read = [entry.stat().st_mtime_ns for entry in digests.glob(f"{_stem(copy)}-*.json")]
        return max(read, default=copy.stat().st_mtime_ns)

    whole = copies.parent.rglob("*.safetensors")
    _keep_newest(whole, MOST_BYTES, lambda path: path.stat().st_size, used)
    _keep_newest(digests.glob("*.json"), _MOST_DIGESTS, lambda _: 1)


def _keep_newest(
    paths: Iterable[Path],
    most: int,
    cost: Callable[[Path], int],
    used: Callable[[Path], int] = lambda path: path.stat().st_mtime_ns,
) -> None:
    """Remove the files that were used longest ago until the others cost at most so much."""
    found = []
    for path in paths:
        with suppress(OSError):
            found.append((used(path), cost(path), path))
    total = sum(each for _, each, _ in found)
    for _, each, path in sorted(found):
        if total <= most:
            return
        with suppress(OSError):
            path.unlink()
        total -= each


class Copies:
    """Which of some checkpoints' copies a job has made."""

    def __init__(self, checkpoints: "Sequence[Checkpoint]") -> None:
        self._lacking = [each for each in checkpoints if is_lacking(each)]

    def written(self) -> str:
        """What has been written since the beginning; "" for nothing."""
        made = [each for each in self._lacking if has_converted(each.digest)]
        if not made:
            return ""
        names = ", ".join(each.path.name for each in made)
        return (
            f"converted copies of {names} lie in {folder()} now, for faster starts: delete them "
            "at will"
        )
