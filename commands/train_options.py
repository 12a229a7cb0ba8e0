"""The options that hw1 train classify and hw1 train segment have in common."""

import click

from . import options
from .options import Decorator, FiniteRange, Function, PathType, decorate

LARGEST_SCALE = 4
"""What tiles are enlarged by at most to be scored."""

_YEAR = 366 * 24 * 60  # in minutes

_OPTIONS: list[Decorator] = [
    click.option(
        "--validation",
        type=PathType,
        metavar="DIR",
        help="Images to score on.  [default: the folder val* in DATA, or beside it]",
    ),
    click.option(
        "--output",
        type=PathType,
        required=True,
        metavar="DIR",
        help="Where the checkpoints and the run's state go; can be given as --weights later.",
    ),
    click.option(
        "--overwrite", is_flag=True, help="Discard the earlier run in --output, and begin again."
    ),
    click.option(
        "--init",
        default="imagenet",
        show_default=True,
        metavar="imagenet|scratch|FILE",
        help="First weights: torchvision's (fetched), random ones, or those of a file: a "
        "checkpoint of this member, or VGG16's convolutions for members that have them or grow "
        "from them (vgg19_bn).",
    ),
    click.option(
        "--size-from",
        type=int,
        metavar="PIXELS",
        help="Begin with smaller crops, which grow to --size.  [default: --size]",
    ),
    click.option(
        "--epoch-images",
        type=click.IntRange(1),
        help="Images in an epoch: fewer, for a kill to lose less, or those of several passes, to "
        "write a state less often.  [default: all, once]",
    ),
    click.option(
        "--budget",
        type=FiniteRange(min=0, min_open=True, max=_YEAR),
        metavar="MINUTES",
        help="Instead of --epochs: measure some steps, and fit the schedule into this time.",
    ),
    click.option(
        "--ema",
        type=FiniteRange(0, 1, max_open=True),
        default=0.999,
        show_default=True,
        metavar="DECAY",
        help="What a step leaves of the average of the weights that is kept: over about "
        "1 / (1 - DECAY) steps, so less for a short run.",
    ),
    click.option(
        "--freeze",
        type=click.IntRange(0),
        metavar="BLOCKS",
        help="First blocks that stay as they begin.  [default: 2 of VGG's with weights given, "
        "else 0]",
    ),
    click.option(
        "--holdout",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Training images held out: they, not the validation images, choose the best epoch.",
    ),
    click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True),
    options.device("Where to train; auto: on a GPU where there is one."),
    options.TRAIN_PRECISION,
    click.option("--threads", type=click.IntRange(1), help="Threads on a CPU.  [default: all]"),
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
]

ARCH = click.option(
    "--arch",
    metavar="NAME",
    help="The network, any of these libraries: torchvision:NAME or timm:NAME.",
)
CLASSES = click.option(
    "--classes",
    type=PathType,
    metavar="FILE",
    help="The classes in order: .csv (name, or name,r,g,b), .txt or .toml.  [default: as found in "
    "DATA]",
)


def common(function: Function) -> Function:
    """Those whose defaults are the same for both."""
    return decorate(function, *_OPTIONS)


def size(default: str) -> Decorator:
    """``--size``; the default, in words, is applied where it's known what of."""
    return click.option(
        "--size",
        type=int,
        metavar="PIXELS",
        help=f"Side of the network's input.  [default: {default}]",
    )


def epochs(default: int) -> Decorator:
    """``--epochs``; the default is shown, and applied where ``--budget`` isn't given either."""
    return click.option(
        "--epochs",
        type=click.IntRange(1),
        help="Passes over the images; with --epoch-images, epochs of so many each.  "
        f"[default: {default}]",
    )


def batch_size(default: int) -> Decorator:
    """``--batch-size``, in images."""
    return click.option(
        "--batch-size",
        type=click.IntRange(1),
        default=default,
        show_default=True,
        help="Images in a step.",
    )


def learning_rate(default: str) -> Decorator:
    """``--lr``, of the backbone; the default, in words, is the recipe's."""
    return click.option(
        "--lr",
        type=FiniteRange(min=0, min_open=True),
        help="Highest learning rate of the backbone; the layers after it have several times "
        f"that.  [default: {default}]",
    )
