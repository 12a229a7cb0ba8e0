"""A soup: the mean of the weights of several checkpoints that began from the same ones.

Networks that were trained on from the same weights, by other recipes or seeds, lie in one basin of
the loss, and their mean is often better than each, at the cost of one (Wortsman et al. 2022, "Model
soups"). Of networks that began at random it is worth nothing.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.errors import InputError
from ..models.checkpoints import Checkpoint, agreed_classes, load_state, read_checkpoint, save
from ..models.files import require_writable


def make_soup(paths: Sequence[Path], output: Path) -> Checkpoint:
    """Write the mean of the checkpoints' weights, in fp16, and return what was written.

    How pixels become the input is taken from the last one. Raises InputError for fewer than two
    checkpoints, those of different members or shapes, and an ``output`` that exists or can't be
    written.
    """
    if len(paths) < 2:
        raise InputError(f"expected two checkpoints or more, found {len(paths)}")
    require_writable(output)
    if output.exists():
        raise InputError(f"{output} exists: give another name, or remove it")
    checkpoints = [read_checkpoint(path) for path in paths]
    last = checkpoints[-1]
    for checkpoint in checkpoints:
        if checkpoint.architecture != last.architecture:
            raise InputError(
                f"{checkpoint.path} is a checkpoint of {checkpoint.architecture}, {last.path} of "
                f"{last.architecture}: expected one member's"
            )
    agreed_classes(checkpoints)
    states = [load_state(checkpoint) for checkpoint in checkpoints]
    _require_shapes(checkpoints, states)
    metadata = {
        "recipe": shlex.join(["hw1", "train", "soup", *map(_name, paths)]),
        "ingredients": json.dumps([_ingredient(checkpoint) for checkpoint in checkpoints]),
    }
    made = _mean(states)
    save(made, output, last.architecture, last.preprocessing, metadata, classes=last.classes)
    return read_checkpoint(output)


def _ingredient(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a soup says of a checkpoint in it; of one that is a soup, its ingredients too."""
    about = {"digest": checkpoint.digest, "recipe": checkpoint.metadata.get("recipe", "")}
    if text := checkpoint.metadata.get("ingredients"):
        with suppress(ValueError, RecursionError):  # another program's word for something else
            return about | {"ingredients": json.loads(text)}
    return about


def _mean(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor, in float32; counters are the last one's."""
    mean = dict(states[-1])
    for name, tensor in mean.items():
        if tensor.is_floating_point():
            total = sum((state[name].float() for state in states[1:]), states[0][name].float())
            mean[name] = total / len(states)
    return mean


def _require_shapes(
    checkpoints: Sequence[Checkpoint], states: Sequence[Mapping[str, Tensor]]
) -> None:
    last = {name: tensor.shape for name, tensor in states[-1].items()}
    for checkpoint, state in zip(checkpoints, states, strict=True):
        if {name: tensor.shape for name, tensor in state.items()} != last:
            raise InputError(
                f"{checkpoint.path} and {checkpoints[-1].path} are for inputs of other sizes, "
                "their weights of other shapes: expected one size"
            )


def _name(path: Path) -> str:
    """The folder and the name: ``runs/vgg16/vgg16.safetensors`` is ``vgg16/vgg16.safetensors``."""
    return "/".join(path.absolute().parts[-2:])
