"""Figures as PNG files, drawn by matplotlib without a display.

Figures are objects here, not pyplot's: no global state, no window, no backend to choose.
"""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.classes import REFERENCE_SEGMENTER, Classes
from ..core.durable import write_bytes
from ..core.errors import InputError
from ..core.records import UInt8
from ..core.text import shown
from ..evaluation.evaluate import ClassifyReport, SegmentReport
from ..evaluation.metrics import Calibration, Int64, LandScore
from ..pipeline.masks import palette_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_TICKS = 200


def require_matplotlib() -> None:
    """Raise InputError, with what to do, where matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise InputError('figures need matplotlib: pip install "hw1[figures]"') from None


def check_output(path: Path) -> None:
    """Raise InputError, before any work is done, where a figure can't be written to ``path``."""
    require_matplotlib()
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: a figure is written as PNG: give a name that ends in .png")
    if path.is_dir():
        raise InputError(f"{path}: expected the name of a PNG file, found a folder")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}: make it, or name another")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{path}: no permission to write there")


def make_figure_folder(folder: Path) -> None:
    """Create the folder for figures; InputError where that can't be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: can't be made a folder: {error.strerror}") from error


def draw_confusion(counts: Int64, names: Sequence[str], path: Path, unit: str) -> None:
    """Draw a confusion matrix, rows the truth, each row as shares of its true images or pixels."""
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    names = [plain(name) for name in names]
    few = len(names) <= 12
    side = 6.5 if few else 12
    figure = new_figure(side + 1, side)
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(
        picture, ax=axes, fraction=0.046, pad=0.02, label=f"share of the class's {unit}"
    )
    if len(names) <= _MOST_TICKS:
        axes.set_xticks(
            range(len(names)), names, rotation=45 if few else 90, ha="right" if few else "center"
        )
        axes.set_yticks(range(len(names)), names)
    axes.tick_params(labelsize=9 if few else 7)
    axes.set(xlabel="predicted", ylabel="true", title=f"Confusion matrix, {counts.sum():,} {unit}")
    if few:
        for (row, column), share in np.ndenumerate(shares):
            colour = "white" if share > 0.5 else "black"
            text = f"{share:.2f}" if totals[row] else "–"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    save(figure, path)


def draw_iou(scores: Sequence[LandScore], miou: float | None, path: Path, classes: Classes) -> None:
    """Draw the IoU of each class as bars in the class's colour, and their mean."""
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    heights = [score.iou or 0.0 for score in scores]
    axes.bar(
        [plain(score.name) for score in scores],
        heights,
        color=[_colour(score.index, classes) for score in scores],
        edgecolor="0.3",
    )
    for position, score in enumerate(scores):
        text = "no pixels" if score.iou is None else f"{score.iou:.3f}"
        axes.text(position, heights[position] + 0.015, text, ha="center", fontsize=9)
    if miou is not None:
        axes.axhline(miou, color="0.3", linestyle="--", linewidth=1, zorder=0)
    title = "IoU of each class" + ("" if miou is None else f" (dashed: mIoU {miou:.4f})")
    axes.set(ylim=(0, 1.08), ylabel="IoU", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def draw_reliability(calibration: Calibration, path: Path) -> None:
    """Draw accuracy against confidence, and below it how many images each bin holds."""
    figure = new_figure(5.5, 6.5)
    curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    confidence = [each.confidence for each in calibration.bins]
    curve.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="perfect")
    curve.plot(
        confidence, [each.accuracy for each in calibration.bins], marker="o", label="measured"
    )
    curve.set(
        xlim=(0, 1),
        ylim=(0, 1.02),
        ylabel="accuracy",
        title=f"Reliability: ECE {calibration.ece:.4f}",
    )
    curve.legend(loc="upper left", frameon=False)
    counts.bar(confidence, [each.images for each in calibration.bins], width=0.04, color="0.6")
    counts.set(xlabel="confidence", ylabel="images")
    for axes in (curve, counts):
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def draw_pictures(
    rows: Sequence[Sequence[UInt8]],
    names: Sequence[str],
    titles: Sequence[str],
    path: Path,
    classes: Classes = REFERENCE_SEGMENTER,
) -> None:
    """Draw pictures (H, W, 3), a row an image, a column a title, with the classes' legend below."""
    from matplotlib.patches import Patch

    figure = new_figure(3.4 * len(titles) + 0.4, 3.3 * len(rows) + 0.9)
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for line, pictures, name in zip(grid, rows, names, strict=True):
        for axes, picture in zip(line, pictures, strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(plain(name))
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(plain(title), fontsize=11)
    patches = [
        Patch(facecolor=_colour(index, classes), edgecolor="0.3", label=plain(name))
        for index, name in enumerate(classes.names)
    ]
    figure.legend(
        handles=patches, loc="outside lower center", ncols=min(len(classes), 8), frameon=False
    )
    save(figure, path)


def plain(text: str) -> str:
    """Text that matplotlib draws as it is: no formula between dollars, nothing unprintable."""
    return "\n".join(shown(line) for line in text.split("\n")).replace("$", r"\$")


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _colour(index: int, classes: Classes) -> tuple[float, float, float]:
    red, green, blue = (palette_of(classes)[index] / 255).tolist()
    return red, green, blue


def save(figure: "Figure", path: Path) -> None:
    """Write the figure so that its name never holds half of it."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130, facecolor="white", bbox_inches="tight")
    write_bytes(path, [picture.getvalue()])


def figures_of_classify(
    report: ClassifyReport, folder: Path, names: Mapping[int, str]
) -> list[Path]:
    """Draw the confusion matrix, and the reliability diagram where confidence is known.

    ``names`` are those of classes, where known.
    Returns the PNG files written. Raises InputError where they can't be.
    """
    make_figure_folder(folder)
    written = [folder / "confusion.png"]
    ticks = [f"{names.get(label, '')} {label}".strip() for label in range(len(report.classes))]
    draw_confusion(report.confusion, ticks, written[0], "images")
    if report.calibration is not None:
        written.append(folder / "reliability.png")
        draw_reliability(report.calibration, written[1])
    return written


def figures_of_segment(report: SegmentReport, folder: Path) -> list[Path]:
    """Draw the confusion matrix and the IoU of each class.

    Returns the PNG files written. Raises InputError where they can't be.
    """
    make_figure_folder(folder)
    written = [folder / "confusion.png", folder / "iou.png"]
    draw_confusion(report.confusion, report.classes.names, written[0], "pixels")
    draw_iou(report.per_class, report.miou, written[1], report.classes)
    return written
