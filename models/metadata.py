"""What a checkpoint says of itself: its preprocessing as JSON, the digest of its tensors."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any, get_args

from ..core.errors import InputError
from ..core.preprocessing import Interpolation, Preprocessing
from ..core.records import TaskKind

if TYPE_CHECKING:
    from torch import Tensor

MAX_SCALE = 16
MIN_STD = 1e-6  # as float32 a much smaller one is 0, and what it divides infinite
MAX_NUMBER = 1000
MIN_SIZE = 32  # of the presets: five pools by two leave one pixel
MAX_SIZE = 1024  # a batch of 256 such images takes 3 GB before the network's first layer
CELLS = (1, 2, 4, 8, 16, 32)  # what divides a segmenter's input
_MOST = 16384  # pixels of a side: more is a slip
_SHOWN = 200  # characters of what makes no sense
_FIRST = ("size", "scale", "mean", "std")  # what each checkpoint says
_DEFAULT = Preprocessing()


def reference_preprocessing(task: TaskKind) -> Preprocessing:
    """What the reference did, for checkpoints without metadata: 40 × 40, or tiles as they are."""
    return Preprocessing(size=40 if task == "classify" else None)


def preprocessing_to_json(preprocessing: Preprocessing) -> str:
    """One line of JSON: size, scale, mean, std; and what else isn't as by default."""
    fields = asdict(preprocessing)
    more = [name for name in fields if name not in _FIRST]
    return json.dumps(
        {name: fields[name] for name in _FIRST}
        | {name: fields[name] for name in more if fields[name] != getattr(_DEFAULT, name)}
    )


def preprocessing_from_json(text: str, task: TaskKind, least: int = MIN_SIZE) -> Preprocessing:
    """The other way round. Raises InputError where a field is missing, or makes no sense.

    ``least`` is the smallest size in pixels that the network takes.
    """
    try:
        fields = json.loads(text)
        preprocessing = Preprocessing(
            size=_sides(fields["size"]),
            scale=float(fields["scale"]),
            mean=_triple(fields["mean"]),
            std=_triple(fields["std"]),
            cell=fields.get("cell", 1),
            resize=_sides(fields.get("resize")),
            interpolation=fields.get("interpolation", "bilinear"),
            white=float(fields.get("white", 1.0)),
            order=fields.get("order", "rgb"),
            shrink=_sides(fields.get("shrink")),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise InputError(
            f"preprocessing {text[:_SHOWN]!r}: expected JSON with size, scale, mean and std"
        ) from error
    if unknown := fields.keys() - asdict(preprocessing).keys():
        names = ", ".join(sorted(map(repr, unknown)))[:_SHOWN]
        raise InputError(
            f"preprocessing {text[:_SHOWN]!r}: {names}: not known, so the pixels may not be what "
            "the network was trained on. Import the checkpoint without it, or use a later hw1"
        )
    if fault := preprocessing_fault(preprocessing, task, least):
        raise InputError(f"preprocessing {text[:_SHOWN]!r}: {fault}")
    return preprocessing


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _sides(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def preprocessing_fault(
    preprocessing: Preprocessing, task: TaskKind, least: int = MIN_SIZE
) -> str | None:
    """What of it can't be, a phrase; None where all is well."""
    return _number_fault(preprocessing) or _word_fault(preprocessing, task, least)


def _number_fault(preprocessing: Preprocessing) -> str | None:
    numbers = (preprocessing.scale, preprocessing.white, *preprocessing.mean, *preprocessing.std)
    if not all(isfinite(number) for number in numbers):
        return "a number isn't finite"
    if not 0 < preprocessing.scale <= MAX_SCALE:
        return f"scale must be above 0, and up to {MAX_SCALE}"
    if preprocessing.white <= 0:
        return "white must be above 0"
    if min(preprocessing.std) < MIN_STD or max(map(abs, numbers)) > MAX_NUMBER:
        return f"std must be from {MIN_STD:g} up, and each number at most {MAX_NUMBER}"
    return None


def _word_fault(preprocessing: Preprocessing, task: TaskKind, least: int) -> str | None:
    if preprocessing.interpolation not in get_args(Interpolation):
        return f"interpolation must be one of {', '.join(get_args(Interpolation))}"
    if preprocessing.order not in ("rgb", "bgr"):
        return "order must be rgb or bgr"
    cell = preprocessing.cell
    if not isinstance(cell, int) or cell not in (CELLS if task == "segment" else (1,)):
        return f"cell must be 1, or of a segmenter one of {', '.join(map(str, CELLS))}"
    return _size_fault(preprocessing, task, least)


def _size_fault(preprocessing: Preprocessing, task: TaskKind, least: int) -> str | None:
    size, resize = preprocessing.size, preprocessing.resize
    for name, value in (("resize", resize), ("shrink", preprocessing.shrink)):
        if value is not None and (not _is_size(value, 1) or max(_pair(value)) > _MOST):
            return f"{name} must be a whole number of pixels up to {_MOST}, or two"
    if task == "segment":
        if size is not None or preprocessing.shrink is not None:
            return "size and shrink must be null for a segmenter"
        both = resize is not None and preprocessing.scale != 1
        return "a segmenter has either a resize or a scale" if both else None
    if not _is_size(size, least):
        return f"size must be a whole number of pixels, at least {least}"
    if max(preprocessing.sides or (0,)) > MAX_SIZE:
        return f"size must be at most {MAX_SIZE}: larger ones need more memory than machines have"
    return None


def _pair(size: Any) -> Any:
    return size if isinstance(size, tuple) else (size, size)


def _is_size(size: Any, least: int) -> bool:
    sides = _pair(size)
    return len(sides) == 2 and all(type(side) is int and side >= least for side in sides)


def tensors_digest(state: Mapping[str, "Tensor"]) -> str:
    """SHA-256, in hexadecimal, of names, dtypes, shapes and values, in the names' order."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        flat = tensor.detach().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
