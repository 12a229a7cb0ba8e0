"""Learning curves: what each epoch of training runs gave, from their ``metrics.csv``."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import InputError
from ..core.text import shown
from .figures import check_output, new_figure, plain, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

METRICS = "metrics.csv"
_EPOCH = "epoch"
_SCORES = {"loss": "training loss", "accuracy": "accuracy", "log_loss": "log loss", "miou": "mIoU"}
_HELD_OUT = "held_out_"
_IOU = "iou_"
_LARGEST = 1e100
"""Beyond it an axis' length passes what a float holds; no epoch and no score is near it."""

Columns = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Run:
    """A training run's name, and what each epoch gave: NaN where it gave nothing."""

    name: str
    columns: Columns

    def score(self, name: str) -> str | None:
        """The column that holds a score: the held-out images', or else the validation images'."""
        names = (_HELD_OUT + name, name)
        return next((column for column in names if column in self.columns), None)


def plot_curves(runs: Sequence[Path], output: Path) -> int:
    """Draw the loss and the scores of runs, epoch by epoch, as PNG; of one run, each class's IoU.

    A run is the folder that ``hw1 train`` wrote, or its ``metrics.csv`` under any name. Returns
    the number of epochs drawn. Raises InputError for a file that isn't such a table.
    """
    check_output(output)
    read = [read_run(path) for path in runs]
    panels = [name for name in _SCORES if any(run.score(name) for run in read)]
    if not panels:
        names = ", ".join(shown(str(path)) for path in runs)
        raise InputError(f"{names}: no column of {', '.join(_SCORES)} to draw")
    classes = _classes(read[0]) if len(read) == 1 else []
    count = len(panels) + bool(classes)
    figure = new_figure(4.2 * count, 3.6)
    grid = figure.subplots(1, count, squeeze=False)[0]
    for axes, name in zip(grid, panels, strict=False):
        _draw_score(axes, read, name)
    if classes:
        _draw_classes(grid[-1], read[0], classes)
    for axes in grid:
        axes.set_xlabel("epoch")
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, output)
    return max(len(run.columns[_EPOCH]) for run in read)


def _draw_score(axes: "Axes", runs: Sequence[Run], name: str) -> None:
    lines: list[Line2D] = []
    labels: list[str] = []
    for run in runs:
        if column := run.score(name):
            label = run.name + (", held out" if column.startswith(_HELD_OUT) else "")
            lines += axes.plot(run.columns[_EPOCH], run.columns[column], marker=".")
            labels.append(plain(label))
    axes.set_title(_SCORES[name])
    axes.legend(lines, labels, frameon=False)  # a line's own label is left out if it begins with _


def _draw_classes(axes: "Axes", run: Run, classes: Sequence[str]) -> None:
    for name in classes:
        label = name.removeprefix(_HELD_OUT).removeprefix(_IOU)
        axes.plot(run.columns[_EPOCH], run.columns[name], marker=".", label=plain(label))
    axes.set_title("IoU of each class")
    axes.legend(frameon=False, fontsize=8)


def _classes(run: Run) -> list[str]:
    """The columns that hold a class's IoU."""
    return [name for name in run.columns if name.removeprefix(_HELD_OUT).startswith(_IOU)]


def read_run(path: Path) -> Run:
    """A run's table. Raises InputError where it isn't there or isn't one."""
    file = path / METRICS if path.is_dir() else path
    name = file.absolute().parent.name if file.name == METRICS else file.stem
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or "it isn't a CSV file"
        raise InputError(
            f"{shown(str(file))}: {why}: expected the metrics.csv of a training run, or its folder"
        ) from error
    if not rows or _EPOCH not in rows[0]:
        raise InputError(
            f"{shown(str(file))}: expected a row for each epoch and a column {_EPOCH}, as hw1 "
            "train writes them"
        )
    try:
        columns = {key: [_number(row[key]) for row in rows] for key in rows[0] if key}
    except ValueError as error:
        raise InputError(f"{shown(str(file))}: expected numbers ({error})") from error
    if not all(map(math.isfinite, columns[_EPOCH])):
        raise InputError(f"{shown(str(file))}: expected an epoch in each row, as hw1 train writes")
    return Run(name, columns)


def _number(text: str | None) -> float:
    """A number; NaN, which is drawn as a gap, for none and for those of a run that diverged."""
    number = float(text) if text else math.nan
    return number if abs(number) <= _LARGEST else math.nan
