"""A job in words: what the command line, or a program, asks for. It travels whole."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..execution.engines import EngineOptions
from ..pipeline.classification import Column
from ..pipeline.segmentation import MaskFormat
from ..pipeline.tiff_layout import TiffReading


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What both kinds of job have in common. None, ``auto``: chosen when the job begins.

    ``source`` is a file, a folder, a glob, ``@list.txt`` or ``@-``. ``max_rejected`` is a
    number, or a percentage of the planned images such as ``0.5%``. ``timeout`` is in seconds an
    image. ``tta``: test-time augmentation (see ``pipeline.views``). ``bands`` and ``scale_from``:
    see ``pipeline.tiff_layout.TiffReading``.
    """

    source: str
    output: Path
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    weights: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    shard_size: int | None = None
    threads: int | None = None
    actors: int | None = None
    engine: Literal["ray", "inline"] = "ray"
    address: str | None = None
    timeout: float | None = None
    overwrite: bool = False
    max_rejected: str | None = None
    rejected_ok: bool = False
    tta: bool = False
    bands: tuple[int, int, int] | None = None
    scale_from: tuple[float, float] | None = None

    @property
    def tiff(self) -> TiffReading:
        """What becomes of TIFFs."""
        return TiffReading(bands=self.bands, scale_from=self.scale_from)

    @property
    def engine_options(self) -> EngineOptions:
        """Where the job's shards are moved. Raises InputError for options of Ray's without it."""
        return EngineOptions(
            engine=self.engine,
            device=self.device,
            threads=self.threads,
            actors=self.actors,
            address=self.address,
            timeout=self.timeout,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifySpec(JobSpec):
    """A label for each image. ``members`` None: those of the ensemble's file.

    ``draft``: JPEGs are decoded at a smaller scale (see ``pipeline.decode.decode_crops``).
    """

    members: tuple[str, ...] | None = None
    batch_size: int | None = None
    top_k: int = 1
    columns: tuple[Column, ...] = ()
    scores: Path | None = None
    draft: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSpec(JobSpec):
    """A mask for each image."""

    model: str = "fcn8s"
    mask_format: MaskFormat = "rgb"
    keep_suffix: bool = False
    overlay: Path | None = None
