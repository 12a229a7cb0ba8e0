"""The output of a job that segments images: a PNG for each image, and overlays."""

import hashlib
import os
import posixpath
import stat
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from ..core.durable import make_folder, storage, write_bytes
from ..core.errors import EnvironmentFault, InputError, Refused
from ..core.records import Committed, Planned
from ..core.spec import SegmentSpec
from ..core.text import shown
from ..pipeline.formats import SUFFIXES
from ..pipeline.names import collisions, output_name
from ..pipeline.parts import (
    FileStamps,
    Stamp,
    part_digest,
    part_path,
    read_rejections,
    read_stamps,
    stamp,
    write_stamps,
)
from ..pipeline.rows import read_rows
from ..pipeline.walk import OVERLAY_MARK
from .account import ShardAccount
from .folder import JobFolder
from .generations import read_plans
from .plan import read_plan
from .storage_names import check_storage

LONGEST_NAME = 255
"""Bytes of a file's name: Linux has no file system that allows more."""

_OURS = frozenset({".job", OVERLAY_MARK})


@dataclass(frozen=True, slots=True)
class MaskFolder:
    """Folders of masks, and of overlays. See ``output.Output`` for the methods."""

    masks: Path
    overlay: Path | None
    keep_suffix: bool

    @classmethod
    def open(cls, spec: SegmentSpec) -> Self:
        """The folders that are asked for. Raises InputError where they can't be written to."""
        masks = spec.output.absolute()
        overlay = spec.overlay.absolute() if spec.overlay else None
        for name, folder in (("MASKS", masks), ("--overlay", overlay)):
            if folder is not None:
                _require_folder(folder, name)
        if overlay:
            _require_apart(overlay.resolve(), masks.resolve(), spec)
        return cls(masks, overlay, spec.keep_suffix)

    @classmethod
    def of_record(cls, path: Path, identity: Mapping[str, Any], *, elsewhere: bool) -> Self:
        """The masks of a recorded job, in ``path`` now; overlays where they are still its own."""
        overlay = identity.get("overlay") if elsewhere else None
        return cls(path, Path(overlay) if overlay else None, bool(identity.get("keep_suffix")))

    @property
    def paths(self) -> tuple[Path, ...]:
        """MASKS, and the folder of overlays where asked for."""
        return (self.masks, *([self.overlay] if self.overlay else []))

    def alone(self) -> Self:
        """Without the overlays."""
        return replace(self, overlay=None)

    def check_names(self, root: Path, images: Sequence[Planned]) -> None:
        """Refuse two images for one mask, a mask with too long a name, and masks among images.

        (A folder of masks is never listed: the images in it would be overlooked from then on.)
        """
        outputs = [os.path.realpath(folder) for folder in self.paths]
        for parent in {posixpath.dirname(image.image_id) for image in images}:
            place = os.path.realpath(root / parent)
            if any(os.path.commonpath((place, output)) == output for output in outputs):
                raise InputError(
                    f"{place}: the masks or overlays would lie among the images; give "
                    "another folder"
                )
        for image in images:
            if len(os.fsencode(Path(self._mask_name(image.image_id)).name)) > LONGEST_NAME:
                raise InputError(
                    f"{image.image_id}: its mask's name would have more than {LONGEST_NAME} bytes, "
                    "which no file's may: rename the image, or leave it out with --exclude"
                )
        ids = (image.image_id for image in images)
        for first, second in collisions(ids, ".png", self.keep_suffix):
            raise InputError(
                f"{first} and {second} would both be written to {self._mask_name(second)}: give "
                f"--keep-suffix (then the second is {output_name(second, '.png', True)})"
            )
        names = {image.image_id: self._mask_name(image.image_id) for image in images}
        for folder in self.paths:
            check_storage(folder, names)

    def check_free(self, images: Sequence[Planned], earlier: frozenset[Path] = frozenset()) -> None:
        """Refuse where a mask exists already: this job has not written it."""
        for folder in self.paths:
            if folder.is_dir() and any(path.name not in _OURS for path in folder.iterdir()):
                for image in images:
                    path = folder / self._mask_name(image.image_id)
                    if os.path.lexists(path) and path not in earlier:
                        raise Refused(
                            f"{path} exists, and no job folder says that hw1 wrote it: "
                            "give another folder, or remove it"
                        )

    def prepare(self) -> None:
        """Mark the folder of overlays as one."""
        if self.overlay:
            make_folder(self.overlay)
            write_bytes(self.overlay / OVERLAY_MARK, [f"of {self.masks}\n".encode()])

    def damaged(
        self, folder: JobFolder, entry: Committed, stale: Container[str], *, check: bool
    ) -> list[Path]:
        """The masks and overlays that are not as written; way is made for new ones.

        Where their content had to be read, what they are now is recorded for the next time.
        """
        recorded = read_stamps(folder.path, entry.shard)
        now: dict[str, FileStamps] = {}
        bad: list[Path] = []
        for image_id, digest in read_rows(part_path(folder.path, entry.shard)):
            if image_id in stale:
                continue
            before = recorded.get(image_id)
            name = self._mask_name(image_id)
            blended = before.overlay_digest if before else ""
            files: list[tuple[Path, str, Stamp | None]] = [
                (self.masks / name, digest, before.mask if before else None)
            ]
            if self.overlay:
                known = before.overlay if before else None
                files.append((self.overlay / name, blended, known))
            as_written = [_as_written(*file, check=check) for file in files]
            bad += [path for (path, *_), found in zip(files, as_written, strict=True) if not found]
            whole = [found for found in as_written if found]
            if len(whole) == len(files):
                now[image_id] = FileStamps(whole[0], blended, *whole[1:])
        for path in bad:
            _make_way(path)
        if not bad and now != {name: recorded.get(name) for name in now}:
            write_stamps(folder.path, entry.shard, {**recorded, **now})
        return bad

    def finish(self, folder: JobFolder, shards: Iterator[ShardAccount]) -> None:
        """Nothing is left to write but the account: the masks lie where they belong."""
        for _ in shards:
            pass

    def drop(self, rows: Iterator[list[str]], scored: Iterable[str]) -> None:
        """Remove the masks of these rows, each after its overlay, and folders that this empties."""
        digests: dict[str, set[str]] = {}
        for image_id, digest in rows:
            digests.setdefault(self._mask_name(image_id), set()).add(digest)
        if digests:
            for image_id in scored:
                digests.pop(self._mask_name(image_id), None)
        for name, written in digests.items():
            mask = self.masks / name
            if not any(_as_written(mask, digest, None, check=True) for digest in written):
                continue
            for root in reversed(self.paths):
                with storage(root / name), suppress(NotADirectoryError):
                    (root / name).unlink(missing_ok=True)
                    _remove_empty((root / name).parent, root)

    def faults(
        self, folder: JobFolder, shards: Iterator[ShardAccount], plan: Sequence[Planned]
    ) -> Iterator[str]:
        """The masks that aren't what was written, and the overlays that are gone."""
        for shard in shards:
            for image_id, digest in read_rows(part_path(folder.path, shard.entry.shard)):
                path = self.masks / self._mask_name(image_id)
                try:
                    regular = stat.S_ISREG(path.lstat().st_mode)
                    found = hashlib.sha256(path.read_bytes()).hexdigest()
                except OSError as error:
                    yield f"{shown(str(path))}: {error.strerror}"
                    continue
                if found != digest or not regular:
                    yield f"{shown(str(path))}: its content is not the mask that was written"
                if self.overlay and not (self.overlay / self._mask_name(image_id)).is_file():
                    path = self.overlay / self._mask_name(image_id)
                    yield f"{shown(str(path))}: expected an overlay, found nothing"

    def files(self, folder: JobFolder) -> Iterator[Path]:
        """The masks and overlays of the plan's images, not only of the ledger's.

        A killed job leaves masks that were never entered, and none was there when it began.
        """
        yield from (path for _, path in self._files(folder))

    def discard(self, folder: JobFolder) -> None:
        """Remove them, and folders that this empties."""
        for root, path in self._files(folder):
            with storage(path), suppress(NotADirectoryError):
                path.unlink(missing_ok=True)
                _remove_empty(path.parent, root)
        for root in self.paths:
            with storage(root):
                (root / OVERLAY_MARK).unlink(missing_ok=True)

    def _files(self, folder: JobFolder) -> Iterator[tuple[Path, Path]]:
        """The files, each after the folder that it is in or below."""
        for image_id in _image_ids(folder) or self._known_by_content(folder):
            for root in self.paths:
                yield root, root / self._mask_name(image_id)

    def _known_by_content(self, folder: JobFolder) -> Iterator[str]:
        """Where nothing else is left of the job: its parts' rows whose masks have their digest."""
        for part in (folder.path / "parts").glob("*.csv"):
            for row in read_rows(part):
                if len(row) == 2 and not Path(row[0]).is_absolute() and ".." not in row[0]:
                    mask = self.masks / self._mask_name(row[0])
                    if _as_written(mask, row[1], None, check=True):
                        yield row[0]

    def _mask_name(self, image_id: str) -> str:
        return output_name(image_id, ".png", self.keep_suffix)


def _as_written(path: Path, digest: str, before: Stamp | None, *, check: bool) -> Stamp | None:
    """The file's size and time where it is what was written, None where it isn't."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        now = stamp(path)
        if now == before and not check:
            return now
        if not digest:  # an overlay of a job begun earlier
            return now if now[0] else None
        return now if hashlib.sha256(path.read_bytes()).hexdigest() == digest else None
    except (FileNotFoundError, NotADirectoryError):
        return None


def _make_way(path: Path) -> None:
    """Remove an empty folder that stands where a mask belongs; Refused where it isn't empty.

    A link, or a file, is replaced by the rename that puts the mask there.
    """
    if path.is_dir() and not path.is_symlink():
        try:
            path.rmdir()
        except OSError as error:
            raise Refused(
                f"{path}: expected a mask, found a folder ({error.strerror}): move it away, and "
                "give the same command again"
            ) from error


def _image_ids(folder: JobFolder) -> list[str]:
    """The planned images that have, or may have, a mask: the rejected ones have none.

    Where the plan or the record is damaged, those that the rest accounts for.
    """
    whole = [e for s, e in folder.committed().items() if part_digest(folder.path, s) == e.digest]
    try:
        record = folder.read()
        plans = read_plans(folder.path, record)
    except (InputError, EnvironmentFault):
        return _accounted(folder, whole)
    names = [image.image_id for image in plans.current]
    if record.state != "done":  # what an update drops isn't removed yet
        return [*names, *set().union(*plans.stale).difference(names)]
    rejected = {
        rejection.image_id
        for entry in whole
        for rejection in read_rejections(folder.path, entry.shard)
        if rejection.image_id not in plans.stale_of(entry)
    }
    return [name for name in names if name not in rejected]


def _accounted(folder: JobFolder, whole: Sequence[Committed]) -> list[str]:
    """The images of a job without a record, by its plan or its parts."""
    rejected = {r.image_id for e in whole for r in read_rejections(folder.path, e.shard)}
    with suppress(InputError, EnvironmentFault):
        return [p.image_id for p in read_plan(folder.path) if p.image_id not in rejected]
    return [row[0] for e in whole for row in read_rows(part_path(folder.path, e.shard))]


def _require_apart(overlay: Path, masks: Path, spec: SegmentSpec) -> None:
    """Raise InputError where blends would lie in MASKS, or could be written over masks."""
    if masks in (overlay, *overlay.parents) or overlay in masks.parents:
        raise InputError(
            f"--overlay {spec.overlay}: expected a folder outside MASKS ({spec.output}), and not "
            "around it: a blend could have a mask's name"
        )


def _require_folder(path: Path, name: str) -> None:
    """Raise InputError where a folder cannot be made, or written to, at ``path``."""
    try:
        path.exists()
    except OSError as error:
        raise InputError(f"{name} {path}: {error.strerror}") from error
    if path.exists() and not path.is_dir():
        raise InputError(f"{name} {path}: expected a folder, found a file")
    if not path.exists() and path.suffix.lower() in SUFFIXES:
        raise InputError(
            f"{name} {path}: expected a folder's name: in it there will be a PNG for each image"
        )
    above = path
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{name} {path}: {above} cannot be written to")


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove a folder below ``root`` and those above it, as far as they are empty."""
    while folder != root and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
