"""``hw1 evaluate``: how good a result is."""

from pathlib import Path

import click

from .options import FileType, PathType

_ALLOW_REJECTED = click.option(
    "--allow-rejected",
    is_flag=True,
    help="Leave out the images that the job rejected, and say how many. Without it they are an "
    "error, as any image without a prediction is.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
_FIGURES = click.option(
    "--figures",
    type=PathType,
    metavar="DIR",
    help="Write figures (PNG) into this folder.",
)

_CLASSES = click.option(
    "--classes",
    type=PathType,
    metavar="FILE",
    help="The classes in order: .csv (name, or name,r,g,b), .txt or .toml.  [default: those that "
    "the job beside the result lists, else the reference's]",
)
_PER_IMAGE = click.option(
    "--per-image", type=FileType(".csv"), metavar="FILE.csv", help="Write a row an image."
)
_PER_CLASS = click.option(
    "--per-class", type=FileType(".csv"), metavar="FILE.csv", help="Write a row a class."
)


@click.group()
def evaluate() -> None:
    """Measure how good a result is, given the truth."""


@evaluate.command()
@click.argument("predictions", metavar="OUT.csv", type=PathType)
@click.argument("truth", type=PathType)
@click.option(
    "--scores",
    type=PathType,
    metavar="FILE",
    help="The class probabilities that the same run wrote with --scores: gives top-k accuracy "
    "and calibration.",
)
@click.option(
    "--cascade",
    type=PathType,
    metavar="FIRST.csv",
    help="The result of one of the members alone, with --columns confidence: says what cascades "
    "that ask it first would cost, for several T.",
)
@click.option(
    "--names",
    type=PathType,
    metavar="CSV",
    help="Names of the classes, to read beside their numbers: columns label, name.",
)
@_CLASSES
@_PER_IMAGE
@_PER_CLASS
@_FIGURES
@_ALLOW_REJECTED
@_JSON
def classify(
    predictions: Path,
    truth: Path,
    *,
    scores: Path | None,
    cascade: Path | None,
    names: Path | None,
    classes: Path | None,
    per_image: Path | None,
    per_class: Path | None,
    figures: Path | None,
    allow_rejected: bool,
    as_json: bool,
) -> None:
    """Score the labels of OUT.csv: accuracy, top-k, classes, confusion, calibration.

    TRUTH is a CSV (first column the image, second its label, a number or a name; a header or
    none), a folder with a folder for each class, or one whose files are named CLASS_ID.png. Images
    are paired by name, never by position: a missing, extra or repeated one is an error that names
    it. Intervals are Wilson's, of 95 %.

    \b
    Examples:
      hw1 evaluate classify out.csv val_gt.csv
      hw1 evaluate classify out.csv val_50/ --scores scores.parquet --figures figures/
      hw1 evaluate classify out.csv val_gt.csv --json | jq .accuracy
    """
    from ..evaluation.evaluate import evaluate_classify
    from ..evaluation.truth import read_class_names
    from ..plotting.figures import figures_of_classify, require_matplotlib
    from . import evaluation_tables as tables

    if figures:
        require_matplotlib()
    report = evaluate_classify(
        predictions,
        truth,
        scores=scores,
        allow_rejected=allow_rejected,
        classes=classes,
        first=cascade,
    )
    known = read_class_names(names) if names else dict(enumerate(report.classes.names))
    tables.write_csvs(report, per_image, per_class)
    written = figures_of_classify(report, figures, known) if figures else []
    if as_json:
        tables.print_json(report.as_json(), written)
    else:
        tables.print_classify(report, known, written)


@evaluate.command()
@click.argument("masks", metavar="MASKS", type=PathType)
@click.argument("truth", type=PathType)
@_CLASSES
@_PER_IMAGE
@_PER_CLASS
@_FIGURES
@_ALLOW_REJECTED
@_JSON
def segment(
    masks: Path,
    truth: Path,
    *,
    classes: Path | None,
    per_image: Path | None,
    per_class: Path | None,
    figures: Path | None,
    allow_rejected: bool,
    as_json: bool,
) -> None:
    """Score the masks in the folder MASKS: mIoU, IoU of each class, pixel accuracy.

    TRUTH is a folder of PNG masks, by colour or by index: a line says which. They are paired by
    name, never by position: 0010.png, 0010_sat.png and 0010_mask.png are all 0010; a missing or
    extra one is an error that names it. mIoU is the mean over the classes, over all pixels of all
    images. The unlabelled class (the reference's unknown, 6) is not averaged, but another class
    predicted on such a pixel counts against it. Intervals, of 95 %, are by bootstrap over the
    images.

    \b
    Examples:
      hw1 evaluate segment masks/ validation/
      hw1 evaluate segment masks/ validation/ --json | jq .miou
    """
    from ..evaluation.evaluate import evaluate_segment
    from ..plotting.figures import figures_of_segment, require_matplotlib
    from . import evaluation_tables as tables

    if figures:
        require_matplotlib()
    with tables.progress() as watch:
        report = evaluate_segment(
            masks, truth, allow_rejected=allow_rejected, watch=watch, classes=classes
        )
    tables.write_csvs(report, per_image, per_class)
    written = figures_of_segment(report, figures) if figures else []
    if as_json:
        tables.print_json(report.as_json(), written)
    else:
        tables.print_segment(report, written)
