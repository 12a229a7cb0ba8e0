"""What ``hw1 evaluate`` prints: tables, or JSON."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from ..core.durable import write_bytes
from ..core.errors import InputError
from ..core.text import some
from ..pipeline.rows import format_row, join_rows
from .tables import print_line, print_table

if TYPE_CHECKING:
    from ..evaluation.evaluate import ClassifyReport, SegmentReport
    from ..evaluation.intervals import Interval


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
    summary = [
        *_counted(report),
        ("accuracy", f"{report.accuracy:.4f} ({report.correct:,} right)"),
        ("95 % interval", _interval(report.accuracy_interval)),
    ]
    summary += [(f"top-{k} accuracy", _score(share)) for k, share in report.top_k.items() if k > 1]
    summary += [
        ("balanced accuracy (mean recall)", _score(report.balanced_accuracy)),
        ("macro F1", _score(report.macro_f1)),
    ]
    if report.calibration is not None:
        summary.append(("expected calibration error", _score(report.calibration.ece)))
    print_table(("score", "value"), summary, title="Classification")
    _print_classes(report, names)
    if pairs := report.most_confused():
        rows = [(_named(true, names), _named(label, names), f"{n:,}") for true, label, n in pairs]
        print_line()
        print_table(
            ("true", "predicted", "images"), rows, title="Most confused", left=("predicted",)
        )
    if report.calibration is not None:
        bins = [
            (_score(each.confidence), _score(each.accuracy), f"{each.images:,}")
            for each in report.calibration.bins
        ]
        print_line()
        print_table(("mean confidence", "accuracy", "images"), bins, title="Calibration")
    if report.cascade:
        costs = [
            (
                f"{each.least:g}",
                f"{100 * each.early:.1f} %",
                _score(each.accuracy),
                f"{100 * (each.accuracy - report.accuracy):+.2f}",
            )
            for each in report.cascade
        ]
        print_line()
        print_table(("T", "decided alone", "accuracy", "points"), costs, title="Cascade")
    _print_notes(report)
    _print_figures(figures)


def _print_classes(report: "ClassifyReport", names: Mapping[int, str]) -> None:
    rows = [
        (
            _named(score.label, names),
            _score(score.precision),
            _score(score.recall),
            _interval(score.recall_interval),
            _score(score.f1),
            f"{score.support:,}",
            f"{score.predicted:,}",
        )
        for score in report.per_class
        if score.support or score.predicted
    ]
    print_line()
    print_table(
        ("class", "precision", "recall", "95 %", "F1", "true", "predicted"), rows, title="Classes"
    )


def print_segment(report: "SegmentReport", figures: Sequence[Path]) -> None:
    """Print the scores of masks."""
    summary = [
        *_counted(report),
        ("mIoU", _score(report.miou)),
        ("95 % interval", _interval(report.miou_interval)),
        ("pixel accuracy", _score(report.pixel_accuracy)),
    ]
    print_table(("score", "value"), summary, title="Segmentation")
    rows = [
        (
            f"{score.index} {score.name}",
            _score(score.iou),
            _interval(score.iou_interval),
            _score(score.precision),
            _score(score.recall),
            f"{score.true:,}",
            f"{score.predicted:,}",
        )
        for score in report.per_class
    ]
    print_line()
    print_table(
        ("class", "IoU", "95 %", "precision", "recall", "true px", "predicted px"),
        rows,
        title="Classes",
    )
    foreign = {"truth": report.foreign_true, "predictions": report.foreign_predicted}
    for side, masks in foreign.items():
        if masks:
            print_line(
                f"Left out of the count: {sum(masks.values()):,} pixels of the {side} whose "
                f"colour is no class's: {some(list(masks))}"
            )
    _print_notes(report)
    _print_figures(figures)


def write_csvs(
    report: "ClassifyReport | SegmentReport", per_image: Path | None, per_class: Path | None
) -> None:
    """Write a row an image, and a row a class, where files are named for them."""
    if per_image:
        _write_csv(per_image, report.per_image)
    if per_class:
        _write_csv(per_class, [_flat(asdict(score)) for score in report.per_class])


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """An interval as two columns."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if name.endswith("_interval"):
            flat[name.replace("interval", "low")], flat[name.replace("interval", "high")] = (
                value
                or (
                    None,
                    None,
                )
            )
        else:
            flat[name] = value
    return flat


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    lines = [format_row(list(rows[0])), *(format_row(list(map(_cell, r.values()))) for r in rows)]
    try:
        write_bytes(path, [join_rows(lines)])
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}") from error


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6f}"
    return "" if value is None else str(value)


def _counted(report: "ClassifyReport | SegmentReport") -> list[tuple[str, str]]:
    rows = [("images", f"{report.images:,}")]
    if report.rejected:
        rows.append(("rejected by the job, left out", f"{report.rejected:,}"))
    return rows


def _interval(interval: "Interval | None") -> str:
    return "–" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _print_notes(report: "ClassifyReport | SegmentReport") -> None:
    for note in report.notes:
        print_line(note)


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _named(label: int, names: Mapping[int, str]) -> str:
    return f"{label} {names.get(label, '')}".strip()


def _print_figures(figures: Sequence[Path]) -> None:
    for path in figures:
        print_line(f"figure: {path}")
