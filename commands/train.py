"""``hw1 train``: trains a member or a segmenter; fits the ensemble's weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..models.members import CLASSIFIERS, SEGMENTERS
from . import options, train_options
from .options import FiniteRange, Names, PathType
from .train_options import LARGEST_SCALE

if TYPE_CHECKING:
    from ..training.recipe import Recipe


@click.group()
def train() -> None:
    """Train a member, a segmenter, or the ensemble's weights.

    A run that was killed goes on, when the same command is given again, from the last epoch that
    was finished, to the same weights.
    """


@train.command()
@click.argument("data", type=PathType)
@click.option("--member", type=click.Choice(CLASSIFIERS), help="The network, one of hw1's own.")
@train_options.ARCH
@train_options.CLASSES
@train_options.size("64; of --arch the library's own")
@train_options.epochs(12)
@train_options.batch_size(64)
@train_options.learning_rate("0.01; 6e-4 for efficientnet_lite2")
@click.option(
    "--smoothing",
    type=FiniteRange(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    help="The share of a label that is spread over all classes.",
)
@click.option(
    "--mix",
    type=click.Choice(["none", "mixup", "cutmix"]),
    default="none",
    show_default=True,
    help="Blend the images of half of the batches with others.",
)
@click.option(
    "--augment",
    type=click.Choice(["usual", "strong"]),
    default="usual",
    show_default=True,
    help="How far crops, angles and colours differ from the images': strong for few images that "
    "are learnt by heart.",
)
@click.option(
    "--teacher",
    type=PathType,
    metavar="FILE",
    help="A classifier's checkpoint, of any architecture and size, whose probabilities are learnt "
    "beside the labels: it sees each crop.",
)
@click.option(
    "--teacher-scores",
    type=PathType,
    metavar="FILE",
    help="Instead: a file of scores of the training images, as batch classify --scores writes it.",
)
@train_options.common
def classify(data: Path, *, output: Path, overwrite: bool, as_json: bool, **words: Any) -> None:
    """Train a classifier on DATA.

    DATA is a folder with a folder of images for each class (train/cat/x.jpg), or of images named
    CLASS_ID.png, with a validation folder beside it; or the folder that holds both (train*, val*);
    or a CSV of images and labels. What was read is said before the first step.

    \b
    Examples:
      hw1 train classify pets/ --arch torchvision:resnet18 --output runs/pets
      hw1 train classify data/ --member vgg16 --output runs/vgg16
      hw1 train classify data/train_50 --member vgg16 --init vgg16_features.safetensors \\
          --size 48 --epochs 6 --output runs/vgg16
      hw1 train classify data/ --member vgg19_bn_2 --init runs/vgg16/vgg16.safetensors \\
          --teacher runs/vgg16/vgg16.safetensors --budget 90 --output runs/vgg19_bn_2
    """
    member = _one_network(words.pop("member"), words.pop("arch"), "--member")
    if words["size"] is None:
        words["size"] = _usual_size(member)
    _run(_recipe("classify", member, data, 12, words), output, overwrite, as_json)


@train.command()
@click.argument("data", type=PathType)
@click.option(
    "--member",
    "--model",
    "model",
    type=click.Choice(SEGMENTERS),
    help="The network, one of hw1's own.  [default: fcn8s]",
)
@train_options.ARCH
@train_options.CLASSES
@train_options.size("256, or less where --crop is")
@click.option(
    "--crop",
    type=(int, int),
    metavar="LEAST MOST",
    help="Sides, in pixels of a tile, of the crops that are scaled to --size.  [default: 320 512, "
    "or less where a tile is smaller]",
)
@click.option(
    "--score-scale",
    type=FiniteRange(min=0, min_open=True, max=LARGEST_SCALE),
    help="What tiles are enlarged by to be scored, here and by batch segment.  [default: the "
    "middle of --crop to --size, rounded up to a sixteenth]",
)
@click.option(
    "--colours",
    type=FiniteRange(0, 1),
    default=1.0,
    show_default=True,
    help="How much crops change in brightness, contrast, saturation and tint: 0 leaves them.",
)
@click.option(
    "--dropout",
    type=FiniteRange(0, 1, max_open=True),
    help="The share of fcn8s's wide features that each step does without.  [default: 0.5]",
)
@train_options.epochs(12)
@train_options.batch_size(8)
@train_options.learning_rate("1e-4")
@train_options.common
def segment(data: Path, *, output: Path, overwrite: bool, as_json: bool, **words: Any) -> None:
    """Train a segmenter on DATA.

    DATA is a folder of tiles named NAME_sat.jpg, each with its NAME_mask.png, or one that holds
    images/ and masks/, with a validation folder beside it; or the folder that holds both (train*,
    val*). Masks are by colour, as --classes (or a classes.csv beside them) lists them, or by index.

    \b
    Examples:
      hw1 train segment buildings/ --arch torchvision:lraspp_mobilenet_v3_large --output runs/b
      hw1 train segment data/ --init vgg16_features.safetensors --output runs/fcn8s
      hw1 train segment data/train --validation data/validation --size 192 --size-from 128 \\
          --holdout 80 --budget 120 --output runs/fcn8s
    """
    model = words.pop("model")
    arch = words.pop("arch")
    model = _one_network(model, arch, "--member") if model or arch else "fcn8s"
    if words["dropout"] is None:
        words["dropout"] = 0.5 if model == "fcn8s" else 0.0
    elif words["dropout"] and model != "fcn8s":
        raise click.UsageError(f"--dropout is for fcn8s; {model} has no such layers")
    from ..training.crops import choose

    given = words["crop"], words["size"], words["score_scale"]
    words |= choose(data, words["validation"], *given, largest_scale=LARGEST_SCALE)
    _run(_recipe("segment", model, data, 12, words), output, overwrite, as_json)


def _one_network(preset: str | None, arch: str | None, option: str) -> str:
    from ..models.architectures import find_architecture

    if (preset is None) == (arch is None):
        raise click.UsageError(f"expected a network: give either {option} or --arch")
    return preset or find_architecture(str(arch)).word


def _usual_size(member: str) -> int:
    """The library's own side, in pixels; of hw1's own networks 64."""
    from ..models.architectures import find_architecture

    found = find_architecture(member)
    if found.library is None:
        return 64
    sides = found.preprocessing.sides
    if sides is None:
        return 64  # a segmenter, which is refused with what else is wrong
    return min(sides)


def _recipe(task: Any, member: str, data: Path, epochs: int, words: dict[str, Any]) -> "Recipe":
    """The words of a command line, each resolved."""
    from ..core.numerics import cores, resolve_device, resolve_precision
    from ..training.recipe import Recipe, usual_rate

    if words["budget"] is not None and words["epochs"] is not None:
        raise click.UsageError("--epochs and --budget both set the schedule's length: give one")
    device = resolve_device(words["device"])
    freeze = words["freeze"]
    if freeze is None:
        has_vgg = member.startswith(("vgg", "fcn"))
        freeze = 2 if has_vgg and words["init"] != "scratch" else 0
    others = {"crop": (1, 1), "score_scale": 1.0, "colours": 0.0, "dropout": 0.0}
    others |= {"smoothing": 0.0, "mix": "none", "augment": "usual"}
    if words.get("teacher") and words.get("teacher_scores"):
        raise click.UsageError("--teacher and --teacher-scores are both teachers: give one")
    resolved = {
        "data": str(data),
        "validation": None if words["validation"] is None else str(words["validation"]),
        "size_from": words["size"] if words["size_from"] is None else words["size_from"],
        "epochs": words["epochs"] or epochs,
        "lr": words["lr"] or usual_rate(task, member),
        "freeze": freeze,
        "device": device,
        "precision": resolve_precision(words["precision"], device),
        "threads": (words["threads"] or cores()) if device == "cpu" else None,
        **{
            name: None if words.get(name) is None else str(words[name])
            for name in ("teacher", "teacher_scores", "classes")
        },
    }
    return Recipe(task=task, member=member, **{**others, **words, **resolved})


def _run(recipe: "Recipe", output: Path, overwrite: bool, as_json: bool) -> None:
    from ..training import train as training
    from .train_tables import print_training

    with options.resumable(overwrite=overwrite):
        report = training.train(recipe, output, say, overwrite=overwrite)
    print_training(report, as_json=as_json)


def say(text: str) -> None:
    """A line of progress."""
    click.echo(text, err=True)


@train.command()
@click.argument("data", type=PathType)
@click.option(
    "--weights", type=PathType, required=True, metavar="DIR", help="The members' checkpoints."
)
@click.option(
    "--members",
    type=Names(),
    help="Members to choose from: presets, or files in DIR.  [default: all in DIR]",
)
@click.option(
    "--vote",
    type=click.Choice(["auto", "logits", "probabilities"]),
    default="auto",
    show_default=True,
    help="What is summed; auto: what cross-validation finds better.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=13,
    show_default=True,
    help="Members chosen, with replacement: the weights are counts up to this.",
)
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option(
    "--output", type=PathType, metavar="FILE", help="[default: ensemble.toml in --weights]"
)
@options.device("Where the members run; auto: on a GPU where there is one.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def ensemble(
    data: Path, *, weights: Path, members: tuple[str, ...] | None, as_json: bool, **words: Any
) -> None:
    """Fit the members' vote weights on the labelled images of DATA.

    DATA is a folder of images named CLASS_ID.png that no member was trained on, or one that
    holds such a folder val*. Members are chosen greedily, with replacement (Caruana et al. 2004).
    The accuracy by cross-validation, weights fitted on the other folds, says what new images
    may give; the fitted one is too good.

    \b
    Example:
      hw1 train ensemble data/val_50 --weights weights/
    """
    from ..training.ensemble import train_ensemble
    from .train_tables import print_ensemble

    report = train_ensemble(data, weights, members, say, **words)
    print_ensemble(report, as_json=as_json)


@train.command()
@click.argument("checkpoints", metavar="CHECKPOINT…", type=PathType, nargs=-1, required=True)
@click.option(
    "--output", type=PathType, required=True, metavar="FILE", help="The checkpoint to write."
)
def soup(checkpoints: tuple[Path, ...], *, output: Path) -> None:
    """Average the weights of several checkpoints of one member.

    They must have been trained on from the same weights (Wortsman et al. 2022, "Model soups"): a
    checkpoint, and what it became with --init and another recipe, say. The input's size or scale
    is that of the last one.

    \b
    Example:
      hw1 train soup runs/a/fcn8s.safetensors runs/b/fcn8s.safetensors \\
          --output runs/soup/fcn8s.safetensors
    """
    from ..training.soup import make_soup

    made = make_soup(checkpoints, output)
    click.echo(f"{output}: {made.member}, the mean of {len(checkpoints)} checkpoints")
