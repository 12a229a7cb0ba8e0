"""``hw1 models import``: a checkpoint made elsewhere becomes one of ours."""

from pathlib import Path
from typing import Any, get_args

import click

from ..core.classes import read_classes
from ..core.preprocessing import Interpolation
from ..models.catalogue import describe
from ..models.importing import Dtype, Given, import_checkpoint
from ..models.members import find_member
from .options import PathType

_SHOWN = 3


class Sides(click.ParamType[Any]):
    """Pixels: a number for both sides, or height x width."""

    name = "N|HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """An int, or a tuple of two."""
        try:
            sides = tuple(int(side) for side in str(value).lower().replace("×", "x").split("x"))
        except ValueError:
            sides = ()
        if len(sides) not in (1, 2):
            self.fail(f"expected pixels, as 224 or 240x320, found {value!r}", param, ctx)
        return sides[0] if len(sides) == 1 else sides


class Triple(click.ParamType[tuple[float, ...]]):
    """Three numbers, one a channel, or one for all."""

    name = "R,G,B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Three floats."""
        try:
            numbers = tuple(float(number) for number in str(value).split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in (1, 3):
            self.fail(f"expected three numbers, as 0.5,0.5,0.5, found {value!r}", param, ctx)
        return numbers if len(numbers) == 3 else numbers * 3


@click.command("import", short_help="Make a checkpoint from elsewhere one of ours.")
@click.argument("source", metavar="FILE", type=PathType)
@click.argument("out", metavar="[OUT]", type=PathType, required=False)
@click.option(
    "--arch",
    metavar="NAME",
    help="Its network: a member, torchvision:NAME or timm:NAME.  [default: by its tensors' shapes]",
)
@click.option("--member", metavar="NAME", help="The same, of a member.")
@click.option(
    "--classes",
    type=PathType,
    metavar="LIST",
    help="Class names in order: a file .txt (one a line), .csv (name, or name,r,g,b) or .toml.",
)
@click.option(
    "--output",
    type=PathType,
    metavar="PATH",
    help="Instead of OUT: the new file, or its folder.  [default: beside FILE]",
)
@click.option(
    "--dtype",
    type=click.Choice(get_args(Dtype)),
    default="keep",
    show_default=True,
    help="What the weights are stored in; 8bit: eight bits, and a scale of each output channel.",
)
@click.option("--size", type=Sides(), help="Pixels of a classifier's input.")
@click.option(
    "--resize",
    type=Sides(),
    help="Of an image's shorter side, before its middle is cropped; HxW: of both sides.",
)
@click.option(
    "--shrink",
    type=Sides(),
    help="Pixels to which a larger image is shrunk first, as --resize: of a network that was "
    "trained on small images, enlarged.",
)
@click.option("--squash", is_flag=True, help="Resize the whole image to --size, and crop nothing.")
@click.option(
    "--interpolation", type=click.Choice(get_args(Interpolation)), help="What resizes the image."
)
@click.option("--mean", type=Triple(), help="What is subtracted from each channel.")
@click.option("--std", type=Triple(), help="What each channel is divided by then.")
@click.option("--white", type=float, help="What 255 becomes before mean and std: 1, or 255.")
@click.option("--order", type=click.Choice(["rgb", "bgr"]), help="Of the channels.")
@click.option(
    "--preprocessing",
    metavar="JSON",
    help='All of these at once: \'{"size": 48, "scale": 1, "mean": [0.485, 0.456, 0.406], '
    "\"std\": [0.229, 0.224, 0.225]}'.  [default: as FILE says, or else as the library's own "
    "weights want it; a member's is 40 × 40, a segmenter's as it is, not normalised]",
)
@click.option("--overwrite", is_flag=True, help="Replace the new file where it exists.")
def import_(
    source: Path,
    out: Path | None,
    *,
    arch: str | None,
    member: str | None,
    classes: Path | None,
    output: Path | None,
    dtype: Dtype,
    preprocessing: str | None,
    overwrite: bool,
    squash: bool,
    **changes: Any,
) -> None:
    """Make FILE, a checkpoint from elsewhere, one of ours: OUT.safetensors (of ONNX OUT.onnx).

    Reads what torch.save wrote, in its old and new formats, and safetensors: state dicts, bare or
    under the usual keys, with the prefixes of DataParallel, torch.compile, Lightning and averaged
    models. Pickles that hold anything but tensors are refused, unread.

    \b
      hw1 models import best.pth my.safetensors --arch torchvision:resnet50 --classes names.txt
      hw1 models import vgg16-best.pth --member vgg16
    """
    if arch and member and arch != member:
        raise click.UsageError("--arch and --member both name the network: give one of them")
    if out and output:
        raise click.UsageError("OUT and --output both name the new file: give one of them")
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    if squash:
        if "resize" in given:
            raise click.UsageError("--squash crops nothing: give it without --resize")
        given["resize"] = None
    made = import_checkpoint(
        source,
        out or output,
        Given(
            architecture=arch or (find_member(member).name if member else None),
            classes=read_classes(classes) if classes else None,
            preprocessing=preprocessing,
            changes=given,
            dtype=dtype,
            overwrite=overwrite,
        ),
    )
    found = made.checkpoint
    click.echo(found.path)
    click.echo(
        f"{found.architecture}: {len(found.classes)} classes, {found.bytes / 1e6:.1f} MB, "
        f"SHA-256 {found.digest[:12]}, input {describe(found.preprocessing)}",
        err=True,
    )
    if made.sigmoid:
        no, yes = found.classes.names
        click.echo(
            f"its one output is read as a sigmoid's: {no} below 0.5, {yes} above (--classes names "
            "both, in this order)",
            err=True,
        )
    if made.left_out:
        more = f" and {len(made.left_out) - _SHOWN} more" if len(made.left_out) > _SHOWN else ""
        click.echo(f"left out: {', '.join(made.left_out[:_SHOWN])}{more}", err=True)
