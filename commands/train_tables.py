"""What ``hw1 train`` prints: tables, or JSON."""

import json
from typing import TYPE_CHECKING

import click

from .tables import print_line, print_table

if TYPE_CHECKING:
    from ..training.ensemble import EnsembleReport
    from ..training.train import TrainReport


def print_training(report: "TrainReport", *, as_json: bool) -> None:
    """The kept checkpoints and their scores."""
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
        return
    names = list(dict.fromkeys(name for scores in report.scores.values() for name in scores))
    shown = [name for name in names if "iou_" not in name] or names
    rows = [
        (stage, *(f"{scores[name]:.4f}" if name in scores else "–" for name in shown))
        for stage, scores in report.scores.items()
    ]
    print_table(("checkpoint", *(name.replace("_", " ") for name in shown)), rows)
    print_line()
    print_line(
        f"{report.checkpoint}: epoch {report.best_epoch} of {report.epochs}, "
        f"{report.steps} steps in all"
    )


def print_ensemble(report: "EnsembleReport", *, as_json: bool) -> None:
    """The weights, and what the ensemble is worth."""
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
        return
    rows = [
        (name, f"{report.weights.get(name, 0):g}", f"{accuracy:.4f}")
        for name, accuracy in report.singles.items()
    ]
    print_table(("member", "vote weight", "accuracy alone"), rows)
    print_line()
    for line in (
        f"sum of {report.vote}, {report.images} images",
        f"ensemble, on the images that it was fitted on: {report.fitted:.4f}",
        f"ensemble, by cross-validation:                 {report.cross_validated:.4f}",
        f"equal weights:                                 {report.uniform:.4f}",
        f"best member, by cross-validation:              {report.single:.4f}",
        f"written to {report.path}",
    ):
        print_line(line)
