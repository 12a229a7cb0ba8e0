"""What ``hw1 evaluate`` prints: rich tables, or JSON."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from ..core.text import some

if TYPE_CHECKING:
    from ..evaluation.evaluate import ClassifyReport, SegmentReport


def print_json(report: Mapping[str, Any], figures: Sequence[Path]) -> None:
    """Print a report as one JSON document, the figures' paths with it."""
    print(json.dumps({**report, "figures": [str(path) for path in figures]}, indent=2))


@contextmanager
def progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, where that is a terminal; yields what moves it: done, total."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("masks", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_classify(
    report: "ClassifyReport", names: Mapping[int, str], figures: Sequence[Path]
) -> None:
    """Print the scores of a classification; ``names`` are those of classes, where known."""
    console = _console()
    summary = _table("Classification", "score", "value")
    summary.add_row("images", f"{report.images:,}")
    if report.rejected:
        summary.add_row("rejected by the job, left out", f"{report.rejected:,}")
    summary.add_row("accuracy", f"{report.accuracy:.4f} ({report.correct:,} right)")
    for k, share in report.top_k.items():
        if k > 1:
            summary.add_row(f"top-{k} accuracy", _score(share))
    summary.add_row("balanced accuracy (mean recall)", _score(report.balanced_accuracy))
    summary.add_row("macro F1", _score(report.macro_f1))
    if report.calibration is not None:
        summary.add_row("expected calibration error", _score(report.calibration.ece))
    console.print(summary)
    _print_classes(console, report, names)
    pairs = report.most_confused()
    if pairs:
        confused = _table("Most confused", "true", "predicted", "images")
        for true, label, images in pairs:
            confused.add_row(_named(true, names), _named(label, names), f"{images:,}")
        console.print(confused)
    if report.calibration is not None:
        bins = _table("Calibration", "mean confidence", "accuracy", "images")
        for each in report.calibration.bins:
            bins.add_row(_score(each.confidence), _score(each.accuracy), f"{each.images:,}")
        console.print(bins)
    _print_figures(console, figures)


def _print_classes(console: Console, report: "ClassifyReport", names: Mapping[int, str]) -> None:
    table = _table("Classes", "class", "precision", "recall", "F1", "true", "predicted")
    for score in report.per_class:
        if score.support or score.predicted:
            table.add_row(
                _named(score.label, names),
                _score(score.precision),
                _score(score.recall),
                _score(score.f1),
                f"{score.support:,}",
                f"{score.predicted:,}",
            )
    console.print(table)


def print_segment(report: "SegmentReport", figures: Sequence[Path]) -> None:
    """Print the scores of masks."""
    console = _console()
    summary = _table("Segmentation", "score", "value")
    summary.add_row("images", f"{report.images:,}")
    if report.rejected:
        summary.add_row("rejected by the job, left out", f"{report.rejected:,}")
    summary.add_row("mIoU", _score(report.miou))
    summary.add_row("pixel accuracy", _score(report.pixel_accuracy))
    console.print(summary)
    table = _table("Classes", "class", "IoU", "precision", "recall", "true px", "predicted px")
    for score in report.per_class:
        table.add_row(
            f"{score.index} {score.name}",
            _score(score.iou),
            _score(score.precision),
            _score(score.recall),
            f"{score.true:,}",
            f"{score.predicted:,}",
        )
    console.print(table)
    foreign = {"truth": report.foreign_true, "predictions": report.foreign_predicted}
    for side, masks in foreign.items():
        if masks:
            console.print(
                f"Left out of the count: {sum(masks.values()):,} pixels of the {side} whose "
                f"colour is no class's: {escape(some(list(masks)))}"
            )
    _print_figures(console, figures)


def _console() -> Console:
    return Console(highlight=False)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _named(label: int, names: Mapping[int, str]) -> str:
    return escape(f"{label} {names.get(label, '')}".strip())


def _print_figures(console: Console, figures: Sequence[Path]) -> None:
    for path in figures:
        console.print(f"figure: {path}", markup=False, soft_wrap=True)
