"""``hw1 batch``: classify and segment folders of images; plan says what would be done."""

import os
import re
from typing import TYPE_CHECKING, Any, get_args

import click

from ..core.errors import EnvironmentFault
from ..core.spec import Column
from . import options
from .options import (
    Bands,
    Decorator,
    FileType,
    FiniteRange,
    Function,
    Levels,
    Names,
    OneSource,
    PathType,
    decorate,
)

if TYPE_CHECKING:
    from ..jobs.job import Job


_WEEK = 7 * 24 * 3600  # in seconds: more than any image takes, and no more than a timer holds


class Limit(click.ParamType[str]):
    """A number of images, or a percentage of them."""

    name = "N|P%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form; the percentage is of a number that is not known yet."""
        if not re.fullmatch(r"\d+|\d+(\.\d+)?%", str(value)):
            self.fail(f"expected a number or a percentage (10, 0.5%), found {value!r}", param, ctx)
        return str(value)


class Columns(Names):
    """Names of columns, each of them once."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Check that there are such columns."""
        names = tuple(dict.fromkeys(super().convert(value, param, ctx)))
        if unknown := [name for name in names if name not in get_args(Column)]:
            self.fail(
                f"expected among {', '.join(get_args(Column))}, found {unknown[0]!r}", param, ctx
            )
        return names


_COMMON: list[Decorator] = [
    click.argument("source", metavar="IN"),
    options.INCLUDE,
    options.EXCLUDE,
    options.WEIGHTS,
    options.device("Where the models run; auto: on GPUs where there are any."),
    options.PRECISION,
    options.BACKEND,
    click.option(
        "--shard-size",
        type=click.IntRange(1),
        help="Images in a unit of work, whole batches.  [default: two batches; to segment 16]",
    ),
    click.option(
        "--actors",
        type=click.IntRange(1),
        help="Copies of the models at work.  [default: one a GPU; without, one a machine]",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1),
        help="Threads of an actor on a CPU.  [default: the cores divided by the actors]",
    ),
    click.option(
        "--address", metavar="HOST:PORT|auto", help="A Ray cluster.  [default: this machine]"
    ),
    click.option(
        "--engine",
        type=click.Choice(["ray", "inline"]),
        default="ray",
        show_default=True,
        help="inline: all in this process, without Ray.",
    ),
    click.option(
        "--timeout",
        type=FiniteRange(min=0, min_open=True, max=_WEEK),
        metavar="SECONDS",
        help="Reject an image that takes longer than this.  [default: 600]",
    ),
    click.option(
        "--bands",
        type=Bands(),
        help="Of TIFFs: the bands that are red, green and blue.  [default: 1,2,3]",
    ),
    click.option(
        "--scale-from",
        type=Levels(),
        help="Of TIFFs with more than 8 bits, or floats: the levels that become black and white.  "
        "[default: the range of the file's type; of floats 0,1 or 0,255]",
    ),
    click.option(
        "--overwrite", is_flag=True, help="Discard the earlier job of this output, and begin again."
    ),
    click.option(
        "--update",
        is_flag=True,
        help="Score what is new or changed in IN since, and drop what is gone.",
    ),
    click.option(
        "--keep-gone", is_flag=True, help="Keep the results of images that are gone from IN."
    ),
    click.option("--retry-rejected", is_flag=True, help="Score rejected images again."),
    click.option(
        "--check",
        is_flag=True,
        help="Read again all that was written before, whatever its size and time.",
    ),
    click.option(
        "--max-rejected", type=Limit(), help="Stop where more images are rejected than this."
    ),
    click.option("--rejected-ok", is_flag=True, help="Exit with 0 even if images were rejected."),
    click.option(
        "--accept-gone",
        is_flag=True,
        help="Reject images that are gone with their folders, rather than wait for a remount.",
    ),
    click.option(
        "-v",
        "--verbose",
        count=True,
        help="Say more on stderr, as OUT.csv.job/log.jsonl does; -vv: each shard too.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON."),
]


def _tta(text: str) -> Decorator:
    return click.option("--tta", is_flag=True, help=f"Test-time augmentation: {text}")


def _classify_options(function: Function) -> Function:
    return decorate(
        function,
        _COMMON[0],
        click.argument("output", metavar="OUT", type=FileType()),
        *_COMMON[1:],
        click.option(
            "--members",
            type=Names(),
            help="Classifiers that vote: names of members, or of files in --weights.  [default: "
            "those of ensemble.toml there, else all members that it has]",
        ),
        click.option(
            "--ensemble",
            metavar="NAME",
            help="Another one of the folder: NAME is that of ensemble-NAME.toml (fast is shipped: "
            "one small member), or reference: the reference's eight.  [default: best]",
        ),
        click.option(
            "--model",
            type=FileType(),
            metavar="FILE",
            help="Instead: one checkpoint of any classifier, .safetensors or .onnx.",
        ),
        _tta("add each image's mirror image to the vote. More accurate, in twice the time."),
        click.option(
            "--draft",
            is_flag=True,
            help="Decode JPEGs at 1/2, 1/4 or 1/8 of their scale where that leaves twice what the "
            "members see: faster for large photos; some labels may differ.",
        ),
        click.option(
            "--cascade",
            type=FiniteRange(min=0, min_open=True, max=1),
            metavar="T",
            help="The cheapest member decides alone where its confidence is T or more, the others "
            "score the rest: less work, some labels differ (see docs/accuracy.md).",
        ),
        click.option(
            "--cascade-first",
            metavar="NAME",
            help="The member that decides.  [default: that of the fewest multiplications]",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(1),
            help="Images in a forward pass.  [default: 64 on a CPU; on a GPU up to 1,024, by the "
            "size of the models' input and the GPU's memory]",
        ),
        click.option(
            "--top-k",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="Labels an image, best first (columns label_2, label_3, …).",
        ),
        click.option(
            "--safe-csv",
            is_flag=True,
            help="Write an apostrophe before names that a spreadsheet takes for a formula "
            "(=, +, -, @).",
        ),
        click.option(
            "--columns", type=Columns(), help="More columns: confidence, agreement, voters, name."
        ),
        click.option(
            "--scores",
            type=FileType(),
            metavar="FILE",
            help="Write class probabilities: FILE.parquet or FILE.csv.",
        ),
    )


def _segment_options(function: Function) -> Function:
    return decorate(
        function,
        _COMMON[0],
        click.argument("output", metavar="MASKS/", type=PathType),
        *_COMMON[1:],
        click.option(
            "--model",
            default="fcn8s",
            show_default=True,
            metavar="NAME|FILE",
            help="The segmenter: fcn8s, fcn32s, or a checkpoint's file, .safetensors or .onnx.",
        ),
        _tta(
            "average three views of each image, of three sizes, one mirrored. More accurate, in "
            "three times the time, more for images that are cut into tiles."
        ),
        click.option(
            "--mask-format",
            type=click.Choice(["rgb", "palette", "index"]),
            default="rgb",
            show_default=True,
            help="24-bit colours, an 8-bit palette, or grey values that are the classes.",
        ),
        click.option("--keep-suffix", is_flag=True, help="a.jpg gives a.jpg.png, not a.png."),
        click.option(
            "--overlay", type=PathType, metavar="DIR", help="Write images under their masks too."
        ),
    )


_DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would be done; do nothing.")


@click.group()
def batch() -> None:
    """Score a folder of images.

    IN is a file, a folder (with those in it), a glob, or a list of files: @list.txt, @- (stdin).
    """


@batch.command(cls=OneSource, short_help="Give each image in IN a class.")
@_DRY_RUN
@_classify_options
def classify(dry_run: bool, **words: Any) -> None:
    """Give each image in IN a class: OUT.csv (or .parquet, .jsonl), a row an image.

    IN is a file, a folder (with those in it), a glob, or a list of files: @list.txt, @- (stdin).
    The same command again resumes a job that was killed.

    \b
      hw1 batch classify photos/ labels.csv
      hw1 batch classify 'photos/**/*.png' labels.csv --members vgg16 --top-k 5
      hw1 batch classify photos/ labels.csv --model my.safetensors --columns name
      find photos -name '*.jpg' | hw1 batch classify @- labels.csv --json
    """
    _classify(words, dry_run=dry_run)


@batch.command(cls=OneSource, short_help="Give each image in IN a mask.")
@_DRY_RUN
@_segment_options
def segment(dry_run: bool, **words: Any) -> None:
    """Give each image in IN a mask (of land cover by default): MASKS/, a PNG an image.

    IN is a file, a folder (with those in it), a glob, or a list of files: @list.txt, @- (stdin).
    The same command again resumes a job that was killed.

    \b
      hw1 batch segment tiles/ masks/
      hw1 batch segment tiles/ masks/ --overlay blends/ --mask-format palette
    """
    _segment(words, dry_run=dry_run)


@batch.group(short_help="Say what a job would do, and how long it would take.")
def plan() -> None:
    """Say what a job would do: images, formats, shards, members, device, time. Do nothing."""


@plan.command("classify", cls=OneSource)
@_classify_options
def plan_classify(**words: Any) -> None:
    """Say what "hw1 batch classify" would do, with the same arguments."""
    _classify(words, dry_run=True)


@plan.command("segment", cls=OneSource)
@_segment_options
def plan_segment(**words: Any) -> None:
    """Say what "hw1 batch segment" would do, with the same arguments."""
    _segment(words, dry_run=True)


def _classify(words: dict[str, Any], *, dry_run: bool) -> None:
    from ..core.spec import ClassifySpec
    from ..jobs.classify import ClassifyJob

    as_json, verbose = words.pop("as_json"), words.pop("verbose")
    words["columns"] = words["columns"] or ()
    _run(ClassifyJob.open(ClassifySpec(**words)), as_json, dry_run, verbose)


def _segment(words: dict[str, Any], *, dry_run: bool) -> None:
    from ..core.spec import SegmentSpec
    from ..jobs.segment import SegmentJob

    as_json, verbose = words.pop("as_json"), words.pop("verbose")
    _run(SegmentJob.open(SegmentSpec(**words)), as_json, dry_run, verbose)


def _run(job: "Job", as_json: bool, dry_run: bool, verbose: int) -> None:
    from ..execution.signals import terminate_as_interrupt
    from ..jobs.dry_run import dry_run as describe
    from ..jobs.log import messages
    from ..jobs.progress import Progress, console
    from ..jobs.run import run_job
    from .report import print_dry_run, print_summary

    if dry_run:
        plan = describe(job)
        print_dry_run(plan, as_json=as_json)
        click.get_current_context().exit(2 if plan.problems else 0)
    resumable = options.resumable(overwrite=job.spec.overwrite)
    with resumable, terminate_as_interrupt(), messages(verbose):
        summary = run_job(job, Progress(console(), quiet=as_json))
    try:
        print_summary(summary, as_json=as_json)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left of it would fail at the end
        if not isinstance(error, BrokenPipeError):  # nobody reads it: the exit code says it
            raise EnvironmentFault(
                f"{summary.output} is done, but the summary cannot be printed: {error.strerror}"
            ) from error
    click.get_current_context().exit(summary.exit_code(rejected_ok=job.spec.rejected_ok))
