"""A job in words: what the command line, or a program, asks for. It travels whole."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Backend = Literal["auto", "torch", "openvino"]
Column = Literal["confidence", "agreement", "voters", "name"]
MaskFormat = Literal["rgb", "palette", "index"]


@dataclass(frozen=True, slots=True)
class TiffReading:
    """What becomes of a TIFF's bands, where it isn't the default; other formats have none.

    ``bands`` are three numbers, from 1, of those that become red, green and blue; None: the first
    three, or grey where there are fewer. ``scale_from`` are the levels that become 0 and 255, of
    samples with more than 8 bits or of floats; None: the range of the file's type.
    """

    bands: tuple[int, int, int] | None = None
    scale_from: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What both kinds of job have in common. None, ``auto``: chosen when the job begins.

    ``source`` is a file, a folder, a glob, ``@list.txt`` or ``@-``. ``max_rejected`` is a number,
    or a percentage of the planned images such as ``0.5%``. ``timeout`` is in seconds an image.
    ``check``: the content of all that was written is read again. ``accept_gone``: see
    ``jobs.storm``. ``tta``: test-time augmentation (see ``pipeline.views``). ``bands`` and
    ``scale_from``: see TiffReading.
    """

    source: str
    output: Path
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    weights: Path | None = None
    device: Device = "auto"
    precision: Precision = "auto"
    backend: Backend = "auto"
    shard_size: int | None = None
    threads: int | None = None
    actors: int | None = None
    engine: Literal["ray", "inline"] = "ray"
    address: str | None = None
    timeout: float | None = None
    overwrite: bool = False
    check: bool = False
    update: bool = False
    keep_gone: bool = False
    retry_rejected: bool = False
    max_rejected: str | None = None
    rejected_ok: bool = False
    accept_gone: bool = False
    tta: bool = False
    bands: tuple[int, int, int] | None = None
    scale_from: tuple[float, float] | None = None

    @property
    def tiff(self) -> TiffReading:
        """What becomes of TIFFs."""
        return TiffReading(bands=self.bands, scale_from=self.scale_from)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifySpec(JobSpec):
    """A label for each image. ``members`` None: those of the ensemble, None: the folder's best.

    ``model`` is a checkpoint's file, instead of ``members``, ``ensemble`` and ``weights``.

    ``draft``: JPEGs are decoded at a smaller scale (see ``pipeline.decode_pieces.decode_crops``).
    ``safe_csv``: no name in OUT.csv begins as a spreadsheet's formula does. ``cascade``: the
    confidence from which the member ``cascade_first`` decides alone; None: all always vote.
    """

    members: tuple[str, ...] | None = None
    ensemble: str | None = None
    model: Path | None = None
    batch_size: int | None = None
    top_k: int = 1
    columns: tuple[Column, ...] = ()
    scores: Path | None = None
    draft: bool = False
    safe_csv: bool = False
    cascade: float | None = None
    cascade_first: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentSpec(JobSpec):
    """A mask for each image. ``model`` is a preset's name, or a checkpoint's file."""

    model: str = "fcn8s"
    mask_format: MaskFormat = "rgb"
    keep_suffix: bool = False
    overlay: Path | None = None
