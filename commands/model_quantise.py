"""``hw1 models quantise``: a checkpoint's network in int8, as a file of its own."""

import glob
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from ..core.errors import InputError
from ..core.records import Planned
from ..core.spec import ClassifySpec, SegmentSpec
from ..models.architectures import require_library
from ..models.checkpoints import Checkpoint, read_checkpoint
from ..models.ensemble import is_file_name
from ..models.files import require_writable
from ..models.members import MEMBERS, nearest
from ..models.store import Store
from . import options
from .options import PathType

if TYPE_CHECKING:
    from ..pipeline.find import Found

_MASK = "_mask.png"


@click.command("quantise", short_help="Make a checkpoint's network int8, for CPUs.")
@click.argument("source", metavar="NAME|FILE")
@click.argument("out", metavar="[OUT]", type=PathType, required=False)
@click.option(
    "--images",
    required=True,
    metavar="IN",
    help="Images like those to be scored, unlabelled: a folder, a glob, a list. At most 128 of "
    "them are used, of a segmenter 24. Masks NAME_mask.png beside NAME_sat.jpg are left out of a "
    "segmenter's, where neither --include nor --exclude is given.",
)
@options.INCLUDE
@options.EXCLUDE
@click.option(
    "--truth",
    type=PathType,
    help="Their labels or masks: all these images are scored before and after, to say what int8 "
    "costs.",
)
@options.WEIGHTS
@click.option("--overwrite", is_flag=True, help="Replace the new file where it exists.")
def quantise(
    source: str,
    out: Path | None,
    *,
    images: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
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
      hw1 models quantise fcn8s --images tiles/ --include '*_sat.jpg' --truth tiles/
    """
    from ..pipeline.calibration import write_int8
    from ..pipeline.find import find

    for library in ("openvino", "nncf"):
        require_library(library)
    checkpoint = _checkpoint(source, weights)
    path = _output(out, Path(source), checkpoint, overwrite=overwrite)
    if truth is not None:
        if images == "@-":  # it's read twice, to make the network int8 and to score it
            raise InputError("--images @-, --truth: save the list to a file, and give @FILE")
        _check_truth(truth, checkpoint)
    found = find(images, include, exclude)
    if checkpoint.task == "segment" and not include and not exclude:
        found, exclude = _without_masks(found)
    write_int8(checkpoint, found.root, found.images, path)
    made = read_checkpoint(path)
    click.echo(path)
    sizes = f"{made.bytes / 1e6:.1f} MB, was {checkpoint.bytes / 1e6:.1f}"
    click.echo(f"{made.metadata['calibration']}, {sizes}, SHA-256 {made.digest[:12]}", err=True)
    if truth is not None:
        name = "accuracy" if checkpoint.task == "classify" else "mIoU"
        words = {"source": images, "include": include, "exclude": exclude}
        before, after = (_score(each, words, truth) for each in (checkpoint, made))
        click.echo(
            f"{name} {before:.4f}, in int8 {after:.4f}: {100 * (after - before):+.2f} points",
            err=True,
        )


def _checkpoint(source: str, weights: Path | None) -> Checkpoint:
    """A member's checkpoint, or the file's. Raises InputError where it is neither."""
    if source in MEMBERS:
        return Store.at(weights).checkpoint(source)
    # Of an architecture's word, torchvision:NAME, read_checkpoint says what it is.
    if not (is_file_name(source) or ":" in source or Path(source).exists()):
        raise InputError(
            f"{source}: expected a checkpoint's file or a member's name, found neither: "
            f"{nearest(source, MEMBERS)}"
        )
    return read_checkpoint(Path(source).absolute())


def _output(out: Path | None, source: Path, checkpoint: Checkpoint, *, overwrite: bool) -> Path:
    """The file to write. Raises InputError where none can be written there."""
    name = f"{source.stem}_int8.safetensors"
    path = out or source.with_name(name)
    path = path / name if path.is_dir() else path
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: expected a folder, or a name ending in .safetensors")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: give another name, or --overwrite")
    if path.exists() and path.samefile(checkpoint.path):
        raise InputError(f"{path} is the file itself: give another name")
    require_writable(path)
    return path


def _check_truth(truth: Path, checkpoint: Checkpoint) -> None:
    """Read the truth's names. Raises InputError now, not after minutes, where they can't be."""
    from ..evaluation.truth import find_masks, read_labels

    if checkpoint.task == "segment":
        find_masks(truth)
    else:
        read_labels(truth, checkpoint.classes)


def _without_masks(found: "Found") -> tuple["Found", tuple[str, ...]]:
    """What was found without the true masks beside their images, and the globs that exclude them.

    One line says how many there were.
    """
    masks = _masks(found.images)
    if not masks:
        return found, ()
    click.echo(
        f"left out {len(masks)} masks, NAME{_MASK} beside NAME_sat (--include or --exclude "
        "choose otherwise)",
        err=True,
    )
    images = [image for image in found.images if image.image_id not in masks]
    return replace(found, images=images), tuple(map(glob.escape, sorted(masks)))


def _masks(images: Sequence[Planned]) -> set[str]:
    """The names NAME_mask.png where NAME_sat is there too, with any suffix."""
    stems = {PurePosixPath(image.image_id).with_suffix("").as_posix() for image in images}
    names = (image.image_id for image in images if image.image_id.endswith(_MASK))
    return {name for name in names if f"{name.removesuffix(_MASK)}_sat" in stems}


def _score(checkpoint: Checkpoint, images: Mapping[str, Any], truth: Path) -> float:
    """Accuracy or mIoU of a checkpoint's job on the images, run in this process.

    ``images`` are the job's source, include and exclude.
    """
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
        words = {**images, "output": output, "engine": "inline", "device": "cpu"}
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
