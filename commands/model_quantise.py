"""``hw1 models quantise``: a checkpoint's network in int8, as a file of its own."""

import tempfile
from pathlib import Path
from typing import Any

import click

from ..core.errors import InputError
from ..core.spec import ClassifySpec, SegmentSpec
from ..models.architectures import require_library
from ..models.checkpoints import Checkpoint, read_checkpoint
from ..models.files import require_writable
from ..models.members import MEMBERS
from ..models.store import Store
from . import options
from .options import PathType


@click.command("quantise", short_help="Make a checkpoint's network int8, for CPUs.")
@click.argument("source", metavar="NAME|FILE")
@click.argument("out", metavar="[OUT]", type=PathType, required=False)
@click.option(
    "--images",
    required=True,
    metavar="IN",
    help="Images like those to be scored, unlabelled: a folder, a glob, a list. At most 128 of "
    "them are used, of a segmenter 24.",
)
@click.option(
    "--truth",
    type=PathType,
    help="Their labels or masks: all of IN is scored before and after, to say what int8 costs.",
)
@options.WEIGHTS
@click.option("--overwrite", is_flag=True, help="Replace the new file where it exists.")
def quantise(
    source: str,
    out: Path | None,
    *,
    images: str,
    truth: Path | None,
    weights: Path | None,
    overwrite: bool,
) -> None:
    """Make the network of NAME or FILE compute in int8: OUT, by default NAME_int8.safetensors.

    OUT serves as any checkpoint does: --model OUT, or a member of an ensemble.toml. CPUs run it,
    by openvino. (Weights that are merely stored in fewer bits are another thing.)

    \b
      hw1 models quantise vgg16 --images photos/
      hw1 models quantise my.safetensors --images val/ --truth val.csv
    """
    from ..pipeline.calibration import write_int8
    from ..pipeline.find import find

    for library in ("openvino", "nncf"):
        require_library(library)
    if source in MEMBERS:
        checkpoint, beside = Store.at(weights).checkpoint(source), Path(source)
    else:
        checkpoint, beside = read_checkpoint(Path(source).absolute()), Path(source)
    path = out or beside.with_name(f"{beside.stem}_int8.safetensors")
    path = path / f"{beside.stem}_int8.safetensors" if path.is_dir() else path
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: expected a folder, or a name ending in .safetensors")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: give another name, or --overwrite")
    if path.exists() and path.samefile(checkpoint.path):
        raise InputError(f"{path} is the file itself: give another name")
    require_writable(path)
    found = find(images, (), (), ())
    write_int8(checkpoint, found.root, found.images, path)
    made = read_checkpoint(path)
    click.echo(path)
    sizes = f"{made.bytes / 1e6:.1f} MB, was {checkpoint.bytes / 1e6:.1f}"
    click.echo(f"{made.metadata['calibration']}, {sizes}, SHA-256 {made.digest[:12]}", err=True)
    if truth is not None:
        name = "accuracy" if checkpoint.task == "classify" else "mIoU"
        before, after = (_score(each, images, truth) for each in (checkpoint, made))
        click.echo(
            f"{name} {before:.4f}, in int8 {after:.4f}: {100 * (after - before):+.2f} points",
            err=True,
        )


def _score(checkpoint: Checkpoint, images: str, truth: Path) -> float:
    """Accuracy or mIoU of a checkpoint's job on the images, run in this process."""
    from rich.console import Console

    from ..evaluation.evaluate import evaluate_classify, evaluate_segment
    from ..jobs.classify import ClassifyJob
    from ..jobs.job import Job
    from ..jobs.progress import Progress
    from ..jobs.run import run_job
    from ..jobs.segment import SegmentJob

    classifies = checkpoint.task == "classify"
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / ("labels.csv" if classifies else "masks")
        words: dict[str, Any] = {"source": images, "output": output}
        words |= {"engine": "inline", "device": "cpu"}
        job: Job
        if classifies:
            job = ClassifyJob.open(ClassifySpec(**words, model=checkpoint.path))
        else:
            job = SegmentJob.open(SegmentSpec(**words, model=str(checkpoint.path)))
        run_job(job, Progress(Console(stderr=True), quiet=True))
        if classifies:
            return evaluate_classify(output, truth, allow_rejected=True).accuracy
        miou = evaluate_segment(output, truth, allow_rejected=True).miou
        return float("nan") if miou is None else miou
