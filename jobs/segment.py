"""The job that writes land-cover masks: a segmenter, one PNG for each image."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from ..core.classes import Classes
from ..core.errors import InputError
from ..core.numerics import Device, Profile, gpu_tiles
from ..core.records import TaskKind
from ..core.spec import SegmentSpec
from ..models.architectures import ONNX
from ..models.arithmetic import settle
from ..models.checkpoints import Checkpoint, read_checkpoint, verify
from ..models.ensemble import is_file_name
from ..models.members import MEMBERS, SEGMENTERS
from ..models.store import Store
from ..pipeline.segmentation import SegmentWork
from .identity import of_checkpoint, tiff_identity
from .mask_folder import MaskFolder


@dataclass(frozen=True)
class SegmentJob:
    """What is particular to a job that writes masks. See ``job.Job`` for the methods."""

    spec: SegmentSpec
    output: MaskFolder
    checkpoint: Checkpoint

    @classmethod
    def open(cls, spec: SegmentSpec) -> Self:
        """Find the checkpoint, and where to write. Raises InputError where either can't be."""
        output = MaskFolder.open(spec)
        checkpoint = _segmenter(spec)
        spec = replace(spec, **settle(spec.device, spec.precision, spec.backend, (checkpoint,)))
        return cls(spec, output, checkpoint)

    @property
    def task(self) -> TaskKind:
        """A mask for each image."""
        return "segment"

    @property
    def members(self) -> tuple[str, ...]:
        """The models that the job runs."""
        return (self.checkpoint.member,)

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The segmenter's."""
        return (self.checkpoint,)

    @property
    def classes(self) -> Classes:
        """What the segmenter tells apart."""
        return self.checkpoint.classes

    def with_checkpoints(self, checkpoints: tuple[Checkpoint, ...]) -> Self:
        """See Job."""
        return replace(self, checkpoint=checkpoints[0])

    def batch_size(self, device: Device, memory: int) -> int:
        """On a CPU one: a tile is work enough. Tiles of FCN8s and FCN32s fill a GPU together."""
        together = device == "cuda" and self.checkpoint.architecture in SEGMENTERS
        return gpu_tiles(memory) if together else 1

    def unit(self, batch_size: int) -> int:
        """None: each image is segmented."""
        return 0

    def lanes(self, device: Device, threads: int) -> int:
        """One: there is one model."""
        return 1

    def shard_size(self, batch_size: int) -> int:
        """The images in a shard: whole batches."""
        return -(-(self.spec.shard_size or max(16, 2 * batch_size)) // batch_size) * batch_size

    def identity(self) -> dict[str, Any]:
        """What decides the result, besides the plan and the numerics profile."""
        return {
            "members": {self.checkpoint.member: of_checkpoint(self.checkpoint)},
            "mask_format": self.spec.mask_format,
            "keep_suffix": self.spec.keep_suffix,
            "overlay": str(self.output.overlay) if self.output.overlay else None,
            **({"tta": True} if self.spec.tta else {}),
            **tiff_identity(self.spec.tiff),
        }

    def check_weights(self) -> None:
        """Read the checkpoint whole; raise InputError where it is damaged or doesn't fit."""
        verify(self.checkpoint)

    def work(self, root: Path, folder: Path, profile: Profile) -> SegmentWork:
        """What is done to each shard."""
        return SegmentWork(
            spec=self.spec,
            root=root,
            folder=folder.absolute(),
            masks=self.output.masks,
            overlay=self.output.overlay,
            checkpoint=self.checkpoint,
            profile=profile,
        )


def _segmenter(spec: SegmentSpec) -> Checkpoint:
    """The checkpoint that --model names. Raises InputError where it's none, or no segmenter's."""
    if spec.model in MEMBERS:
        found = Store.at(spec.weights).checkpoint(spec.model)
    elif is_file_name(spec.model) or Path(spec.model).exists():
        if spec.weights is not None:
            raise InputError("--model is one file: give it without --weights")
        found = read_checkpoint(Path(spec.model).absolute())
    else:
        raise InputError(
            f"--model {spec.model}: expected a checkpoint's file, or one of {', '.join(SEGMENTERS)}"
        )
    if found.task != "segment":
        raise InputError(
            f"--model {spec.model}: that is a classifier; expected a segmenter, such as "
            f"{', '.join(SEGMENTERS)}"
        )
    if spec.tta and found.architecture == ONNX and isinstance(found.preprocessing.resize, tuple):
        raise InputError(
            f"--tta looks at each image in three sizes, and {spec.model} takes one: leave it out"
        )
    return found
