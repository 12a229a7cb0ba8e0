"""``hw1 plot``: figures of what the models do."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from . import options
from .options import OneSource, PathType

if TYPE_CHECKING:
    from ..plotting.plot import DeviceChoice, Plotted

_SOURCE = click.argument("source", metavar="IN")
_DEVICE = options.device("Where the model runs; auto: on a GPU where there is one.")
_OUTPUT = click.argument("output", metavar="OUT.png", type=PathType)


@click.group()
def plot() -> None:
    """Draw figures of what the models do."""


@plot.command(cls=OneSource)
@_SOURCE
@_OUTPUT
@click.option("--member", default="vgg16", show_default=True, help="The classifier.")
@click.option(
    "--layer",
    default="fc.0",
    show_default=True,
    help="The layer whose output is embedded; hw1 models MEMBER shows their names.",
)
@options.WEIGHTS
@click.option(
    "--truth",
    type=PathType,
    help="True labels: a CSV, or a folder of CLASS_ID.png.  [default: as IN's names say]",
)
@click.option(
    "--names",
    type=PathType,
    metavar="CSV",
    help="Names of the classes, for the legends: columns label, name.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1))
@options.INCLUDE
@options.EXCLUDE
@_DEVICE
def tsne(
    source: str,
    output: Path,
    *,
    member: str,
    layer: str,
    weights: Path | None,
    truth: Path | None,
    names: Path | None,
    seed: int,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    device: "DeviceChoice",
) -> None:
    """Draw t-SNE of a layer's output for the images of IN: all classes, and ten a panel.

    The same seed, images and weights give the same figure on one machine.

    \b
    Examples:
      hw1 plot tsne val_50/ tsne.png
      hw1 plot tsne val_50/ tsne.png --member densenet169 --layer features.norm5
    """
    from ..plotting.plot import TsneSpec, plot_tsne

    spec = TsneSpec(
        source=source,
        output=output,
        member=member,
        layer=layer,
        weights=weights,
        truth=truth,
        names=names,
        seed=seed,
        device=device,
        include=include,
        exclude=exclude,
    )
    _report(plot_tsne(spec), output)


@plot.command(cls=OneSource)
@_SOURCE
@_OUTPUT
@click.option(
    "--checkpoint",
    "checkpoints",
    type=PathType,
    metavar="FILE",
    multiple=True,
    required=True,
    help="A segmenter's checkpoint; repeat it for several, in the order of the columns.",
)
@click.option(
    "--truth",
    type=PathType,
    metavar="DIR",
    help="Folder of true masks, paired with the images by name: 0010_mask.png is 0010_sat.jpg's.",
)
@click.option("--tta", is_flag=True, help="Draw the masks that batch segment gives with --tta.")
@options.INCLUDE
@options.EXCLUDE
@_DEVICE
def masks(
    source: str,
    output: Path,
    *,
    checkpoints: tuple[Path, ...],
    truth: Path | None,
    tta: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    device: "DeviceChoice",
) -> None:
    """Draw images, their true masks, and the masks of several checkpoints side by side.

    A row an image, 16 at most: choose with --include. Files named *_mask.* are passed over.

    \b
    Examples:
      hw1 plot masks tiles/ masks.png --checkpoint run/early/fcn8s.safetensors \\
        --checkpoint run/final/fcn8s.safetensors
      hw1 plot masks validation/ masks.png --truth validation/ --include '0010_*' \\
        --checkpoint run/fcn8s.safetensors
    """
    from ..plotting.plot import MasksSpec, plot_masks

    spec = MasksSpec(
        source=source,
        output=output,
        checkpoints=checkpoints,
        truth=truth,
        tta=tta,
        device=device,
        include=include,
        exclude=exclude,
    )
    _report(plot_masks(spec), output)


@plot.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=PathType)
@_OUTPUT
def curves(runs: tuple[Path, ...], output: Path) -> None:
    """Draw the learning curves of training runs: loss and score of each epoch.

    RUN is a folder that hw1 train wrote, or a metrics.csv. For one segmenter's run, the IoU of
    each class too.

    \b
    Examples:
      hw1 plot curves runs/fcn8s fcn8s.png
      hw1 plot curves runs/vgg16 runs/vgg19_bn_2 classifiers.png
    """
    from ..plotting.curves import plot_curves

    epochs = plot_curves(runs, output)
    print(f"{output}: {len(runs)} {'run' if len(runs) == 1 else 'runs'}, {epochs} epochs")


def _report(plotted: "Plotted", output: Path) -> None:
    from ..core.text import shown

    for rejection in plotted.rejections:
        name = shown(rejection.image_id)
        print(f"left out: {name} ({rejection.reason}: {rejection.detail})", file=sys.stderr)
    print(f"{output}: {plotted.images:,} {'image' if plotted.images == 1 else 'images'}")
