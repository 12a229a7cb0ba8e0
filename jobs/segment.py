"""The job that writes land-cover masks: a segmenter, one PNG for each image."""

import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..core.durable import make_folder, storage, write_bytes
from ..core.errors import InputError, Refused
from ..core.numerics import Device, Profile
from ..core.records import Committed, Planned, TaskKind
from ..models.checkpoints import Store, load_state
from ..models.members import SEGMENTERS
from ..pipeline.formats import SUFFIXES
from ..pipeline.names import collisions, output_name
from ..pipeline.parts import part_digest, part_path, read_rejections
from ..pipeline.rows import read_rows
from ..pipeline.segmentation import SegmentWork
from ..pipeline.walk import OVERLAY_MARK
from .account import ShardAccount
from .folder import JobFolder
from .identity import of_checkpoint, tiff_identity
from .plan import read_plan
from .spec import SegmentSpec

LONGEST_NAME = 255
"""Bytes of a file's name: Linux has no file system that allows more."""


_OURS = frozenset({".job", OVERLAY_MARK})


class SegmentJob:
    """What is particular to a job that writes masks. See ``job.Job`` for the methods."""

    task: TaskKind = "segment"

    def __init__(self, spec: SegmentSpec) -> None:
        self.spec = spec
        self._masks = spec.output.absolute()
        self._overlay = spec.overlay.absolute() if spec.overlay else None
        for name, folder in (("MASKS", self._masks), ("--overlay", self._overlay)):
            if folder is not None:
                _require_folder(folder, name)
        if self._overlay:
            _require_apart(self._overlay.resolve(), self._masks.resolve(), spec)
        store = Store.at(spec.weights)
        self._checkpoint = store.checkpoint(spec.model)
        if spec.model not in SEGMENTERS:
            raise InputError(
                f"--model {spec.model}: that is a classifier; the segmenters are "
                f"{', '.join(SEGMENTERS)}"
            )

    @property
    def outputs(self) -> tuple[Path, ...]:
        """What the job writes, besides its folder."""
        return (self._masks, *([self._overlay] if self._overlay else []))

    @property
    def members(self) -> tuple[str, ...]:
        """The models that the job runs."""
        return (self._checkpoint.member,)

    def batch_size(self, device: Device) -> int:
        """One: an image's mask depends on no other image, and a tile is work enough."""
        return 1

    def shard_size(self, batch_size: int) -> int:
        """The images in a shard."""
        return self.spec.shard_size or 16

    def identity(self) -> dict[str, Any]:
        """What decides the result, besides the plan and the numerics profile."""
        return {
            "members": {self._checkpoint.member: of_checkpoint(self._checkpoint)},
            "mask_format": self.spec.mask_format,
            "keep_suffix": self.spec.keep_suffix,
            "overlay": str(self._overlay) if self._overlay else None,
            **({"tta": True} if self.spec.tta else {}),
            **tiff_identity(self.spec.tiff),
        }

    def check_names(self, root: Path, images: Sequence[Planned]) -> None:
        """Refuse two images for one mask, a mask with too long a name, and masks among images.

        (A folder of masks is never listed: the images in it would be overlooked from then on.)
        """
        outputs = [os.path.realpath(folder) for folder in self.outputs]
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
        for first, second in collisions(ids, ".png", self.spec.keep_suffix):
            raise InputError(
                f"{first} and {second} would both be written to {self._mask_name(second)}: give "
                f"--keep-suffix (then the second is {output_name(second, '.png', True)})"
            )

    def earlier(self, folder: JobFolder) -> frozenset[Path]:
        """The masks and overlays of the job that the folder describes.

        That's the plan's, not only the ledger's: a killed job leaves masks that were never
        entered, and none of them was there when it began.
        """
        return frozenset(path for _, path in self._earlier(folder))

    def check_weights(self) -> None:
        """Read the checkpoints whole; raise InputError where one is damaged or doesn't fit."""
        load_state(self._checkpoint)

    def check_free(self, images: Sequence[Planned], earlier: frozenset[Path] = frozenset()) -> None:
        """Refuse where a mask exists already: this job has not written it."""
        for folder in self.outputs:
            if folder.is_dir() and any(path.name not in _OURS for path in folder.iterdir()):
                for image in images:
                    path = folder / self._mask_name(image.image_id)
                    if path.exists() and path not in earlier:
                        raise Refused(
                            f"{path} exists, and no job folder says that hw1 wrote it: "
                            "give another folder, or remove it"
                        )

    def prepare(self) -> None:
        """Mark the folder of overlays as one."""
        if self._overlay:
            make_folder(self._overlay)
            write_bytes(self._overlay / OVERLAY_MARK, [f"of {self._masks}\n".encode()])

    def work(self, root: Path, job: Path, profile: Profile) -> SegmentWork:
        """What is done to each shard."""
        return SegmentWork(
            root=root,
            job=job.absolute(),
            masks=self._masks,
            checkpoint=self._checkpoint,
            profile=profile,
            mask_format=self.spec.mask_format,
            keep_suffix=self.spec.keep_suffix,
            overlay=self._overlay,
            tta=self.spec.tta,
            tiff=self.spec.tiff,
        )

    def is_intact(self, folder: JobFolder, entry: Committed) -> bool:
        """Whether the masks of a committed shard are all still there."""
        return all(
            path.exists()
            for image_id, _ in read_rows(part_path(folder.path, entry.shard))
            for path in self._files(image_id)
        )

    def finish(self, folder: JobFolder, shards: Iterator[ShardAccount]) -> None:
        """Nothing is left to write but the account: the masks lie where they belong."""
        for _ in shards:
            pass

    def discard(self, folder: JobFolder) -> None:
        """Remove the masks of the job that the folder describes, and folders that this empties."""
        roots = set()
        for root, path in self._earlier(folder):
            roots.add(root)
            with storage(path), suppress(NotADirectoryError):
                path.unlink(missing_ok=True)
                _remove_empty(path.parent, root)
        for root in roots:
            with storage(root):
                (root / OVERLAY_MARK).unlink(missing_ok=True)

    def _earlier(self, folder: JobFolder) -> Iterator[tuple[Path, Path]]:
        """The files of ``earlier``, each behind MASKS or the overlays' folder, where it lies."""
        if not folder.exists():
            return
        record = folder.read()
        identity = record.identity
        keep_suffix = bool(identity.get("keep_suffix"))  # that job's, not this one's
        roots = [self._masks]
        if identity.get("overlay") and folder.lies_where_written(record):
            roots.append(Path(identity["overlay"]))
        for image_id in _image_ids(folder):
            for root in roots:
                yield root, root / output_name(image_id, ".png", keep_suffix)

    def _mask_name(self, image_id: str) -> str:
        return output_name(image_id, ".png", self.spec.keep_suffix)

    def _files(self, image_id: str) -> Iterator[Path]:
        yield from (root / self._mask_name(image_id) for root in self.outputs)


def _image_ids(folder: JobFolder) -> list[str]:
    """The planned images that have, or may have, a mask: the rejected ones have none.

    Where the plan is damaged, those that the ledger accounts for.
    """
    committed = folder.committed().values()
    intact = [e.shard for e in committed if part_digest(folder.path, e.shard) == e.digest]
    rejected = {r.image_id for shard in intact for r in read_rejections(folder.path, shard)}
    try:
        names = [image.image_id for image in read_plan(folder.path)]
        return [name for name in names if name not in rejected]
    except InputError:
        return [row[0] for shard in intact for row in read_rows(part_path(folder.path, shard))]


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
