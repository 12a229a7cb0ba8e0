"""``hw1 evaluate``: how good a result is."""

from pathlib import Path

import click

from .options import PathType

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
    "--names",
    type=PathType,
    metavar="CSV",
    help="Names of the classes, to read beside their numbers: columns label, name.",
)
@_FIGURES
@_ALLOW_REJECTED
@_JSON
def classify(
    predictions: Path,
    truth: Path,
    *,
    scores: Path | None,
    names: Path | None,
    figures: Path | None,
    allow_rejected: bool,
    as_json: bool,
) -> None:
    """Score the labels of OUT.csv: accuracy, top-k, classes, confusion, calibration.

    TRUTH is a CSV (first column the image, second its label; a header or none) or a folder whose
    files are named CLASS_ID.png. Images are paired by name, never by position: a missing, extra
    or repeated one is an error that names it.

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
    known = read_class_names(names) if names else {}
    report = evaluate_classify(predictions, truth, scores=scores, allow_rejected=allow_rejected)
    written = figures_of_classify(report, figures, known) if figures else []
    if as_json:
        tables.print_json(report.as_json(), written)
    else:
        tables.print_classify(report, known, written)


@evaluate.command()
@click.argument("masks", metavar="MASKS", type=PathType)
@click.argument("truth", type=PathType)
@_FIGURES
@_ALLOW_REJECTED
@_JSON
def segment(
    masks: Path, truth: Path, *, figures: Path | None, allow_rejected: bool, as_json: bool
) -> None:
    """Score the masks in the folder MASKS: mIoU, IoU of each class, pixel accuracy.

    TRUTH is a folder of PNG masks. They are paired by name, never by position: 0010.png,
    0010_sat.png and 0010_mask.png are all 0010; a missing or extra one is an error that names it.
    mIoU is the mean over the classes 0 to 5, over all pixels of all images. Unknown (6) is not
    averaged, but another class predicted on an unknown pixel counts against it.

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
        report = evaluate_segment(masks, truth, allow_rejected=allow_rejected, watch=watch)
    written = figures_of_segment(report, figures) if figures else []
    if as_json:
        tables.print_json(report.as_json(), written)
    else:
        tables.print_segment(report, written)
