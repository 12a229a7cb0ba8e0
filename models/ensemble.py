"""``ensemble.toml``: which members vote, with which weights, by logits or by probabilities.

vote = "logits"

[weights]
vgg16 = 1
"seed0.safetensors" = 2

[scores]
ensemble = 0.85

A member is a preset, or a checkpoint's file in the same folder.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Any, Literal, get_args

from ..core.durable import write_bytes
from ..core.errors import InputError
from . import onnx_file
from .files import read_bytes
from .members import CLASSIFIERS, MEMBERS, find_member, nearest

FILE_STEM = "ensemble"
FILE = f"{FILE_STEM}.toml"
BEST = "best"
"""The name of the ensemble in that file; another's, NAME, is in ``ensemble-NAME.toml``."""

Vote = Literal["logits", "probabilities"]


@dataclass(frozen=True)
class Ensemble:
    """Members and their weights in the vote: presets in their table's order, then files.

    The label is the argmax of the weighted sum of the members' ``vote``: of their logits, or of
    their softmax probabilities.
    """

    members: tuple[str, ...]
    vote_weights: tuple[float, ...]
    vote: Vote


def of(weights: Mapping[str, float], vote: Vote) -> Ensemble:
    """An ensemble from weights by member; a weight of 0 leaves the member out."""
    members = tuple(n for n in dict.fromkeys((*CLASSIFIERS, *weights)) if weights.get(n))
    return Ensemble(members, tuple(float(weights[name]) for name in members), vote)


REFERENCE = of({name: MEMBERS[name].vote_weight for name in CLASSIFIERS}, "logits")


def is_file_name(member: str) -> bool:
    """Whether a member's name is a checkpoint's file, not a preset."""
    return Path(member).suffix.lower() in (".safetensors", onnx_file.SUFFIX)


def read_ensemble(path: Path) -> Ensemble:
    """Read an ``ensemble.toml``. Raises InputError for what is missing, unknown or senseless."""
    try:
        content = tomllib.loads(read_bytes(path).decode())
    except (ValueError, RecursionError) as error:  # also numbers too long, and tables too deep
        raise InputError(f"{path} is not TOML: {error}") from error
    for key in content:
        if key not in ("vote", "weights", "scores"):
            hint = nearest(key, ("vote", "weights", "scores"))
            raise InputError(f"{path}: unknown entry {key!r}: {hint}")
    vote = content.get("vote", "logits")
    if vote not in get_args(Vote):
        raise InputError(f'{path}: vote is {vote!r}, expected "logits" or "probabilities"')
    weights = content.get("weights")
    if not isinstance(weights, dict) or not weights:
        raise InputError(f"{path}: expected a table [weights], lines such as vgg16 = 1")
    ensemble = of({name: _weight(name, weights[name], path) for name in weights}, vote)
    if not ensemble.members:
        raise InputError(f"{path}: all weights are 0: expected at least one above")
    return ensemble


def write_ensemble(
    path: Path, ensemble: Ensemble, scores: Mapping[str, float] | None = None
) -> None:
    """Write an ``ensemble.toml``, whole or not at all; ``scores`` are for the reader."""
    lines = [
        f"# The label is the argmax of the weighted sum of the members' {ensemble.vote}.",
        f'vote = "{ensemble.vote}"',
        "",
        "[weights]",
        *(
            f"{json.dumps(name) if is_file_name(name) else name} = {_number(weight)}"
            for name, weight in zip(ensemble.members, ensemble.vote_weights, strict=True)
        ),
    ]
    if scores:
        lines += ["", "[scores]", *(f"{name} = {value!r}" for name, value in scores.items())]
    write_bytes(path, ["\n".join([*lines, ""]).encode()])


def _weight(name: str, value: Any, path: Path) -> float:
    try:
        if not is_file_name(name):
            find_member(name, CLASSIFIERS)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{path}: the weight of {name} is {value!r}, expected a number")
    try:
        weight = float(value)
    except OverflowError:  # of a whole number, which may have any length
        weight = inf
    if not isfinite(weight) or weight < 0:
        raise InputError(f"{path}: the weight of {name} is {weight:g}, expected 0 or more")
    return weight


def _number(weight: float) -> str:
    return str(int(weight)) if weight == int(weight) else repr(float(weight))
