"""``hw1 models check``: what the plausible mistakes in its preprocessing would cost."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..core.spec import Device
from ..models.checkpoints import read_checkpoint
from ..models.members import MEMBERS
from ..models.store import Store
from . import options
from .options import PathType

if TYPE_CHECKING:
    from ..evaluation.check import Check


@click.command(short_help="Score images under plausible mistakes, before a long night.")
@click.argument("file", metavar="FILE|NAME", type=PathType)
@click.option(
    "--images", required=True, metavar="IN", help="Images like those to score: as IN of hw1 batch."
)
@click.option(
    "--same-as",
    type=PathType,
    metavar="OTHER",
    help="Compare with another file too: the ONNX export, or the original, run in plain torch.",
)
@click.option("--truth", type=PathType, help="True labels, as hw1 evaluate takes them.")
@click.option(
    "--most",
    type=click.IntRange(1),
    metavar="N",
    help="Images that are scored, spread over all.  [default: 200; of a segmenter 20]",
)
@options.device("Where FILE runs, in fp32; OTHER runs on the CPU.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.pass_context
def check(
    context: click.Context,
    file: Path,
    *,
    images: str,
    same_as: Path | None,
    truth: Path | None,
    most: int | None,
    device: Device,
    as_json: bool,
) -> None:
    """Score some images as FILE says, and under each plausible mistake: how many labels flip?

    The mistakes: BGR, no EXIF rotation, 0 to 255 for 0 to 1, another mean and std, no crop,
    another resize, another interpolation. What flips many labels has to be right in FILE's
    metadata; where a mistake gives a better accuracy (--truth), it isn't. Exits with 1 where
    labels differ from those of --same-as.

    \b
      hw1 models check my.safetensors --images photos/
      hw1 models check my.safetensors --images val/ --truth val.csv --same-as my.onnx
    """
    from ..evaluation.check import check as run

    above = context.parent.params if context.parent else {}
    if str(file) in MEMBERS:
        checkpoint = Store.at(above.get("weights")).checkpoint(str(file))
    else:
        checkpoint = read_checkpoint(file.absolute())
    found = run(checkpoint, images, same_as=same_as, truth=truth, most=most, device=device)
    if as_json or above.get("as_json"):
        click.echo(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        _print(found)
    if found.same is not None and found.same.differ:
        context.exit(1)


def _print(found: "Check") -> None:
    from .tables import print_line, print_table

    columns = ["mistake", f"{found.what} that flip", "confidence", "accuracy", ""]
    known = [
        True,
        True,
        any(each.confidence is not None for each in found.tried),
        found.accuracy is not None,
        any(each.why_not for each in found.tried),
    ]
    rows = [
        (
            each.mistake,
            "–" if each.share is None else f"{100 * each.share:.2f} %",
            "–" if each.confidence is None else f"{each.confidence:+.3f}",
            "–" if each.accuracy is None else f"{each.accuracy:.4f}",
            each.why_not,
        )
        for each in found.tried
    ]
    if found.accuracy is not None:
        rows.insert(0, ("none", f"{0:.2f} %", f"{0:+.3f}", f"{found.accuracy:.4f}", ""))
    kept = [[cell for cell, keep in zip(row, known, strict=True) if keep] for row in rows]
    head = [column for column, keep in zip(columns, known, strict=True) if keep]
    title = f"{found.file}: {found.images} images"
    title += f", {found.unreadable} can't be read" if found.unreadable else ""
    print_table(head, kept, title=title, left=("",))
    print_line()
    for sentence in found.sentences():
        print_line(sentence)
