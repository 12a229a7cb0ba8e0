"""What a checkpoint says of itself: its preprocessing as JSON, the digest of its tensors."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from ..core.preprocessing import Preprocessing
from .members import MEMBERS

if TYPE_CHECKING:
    from torch import Tensor

MAX_SCALE = 16
MIN_STD = 1e-6  # as float32 a much smaller one is 0, and what it divides infinite
MAX_NUMBER = 1000
MIN_SIZE = 32  # five pools by two leave one pixel
MAX_SIZE = 1024  # a batch of 256 such images takes 3 GB before the network's first layer
CELLS = (1, 2, 4, 8, 16, 32)  # what divides a segmenter's input
_SHOWN = 200  # characters of what makes no sense


def reference_preprocessing(member: str) -> Preprocessing:
    """What the reference did, for checkpoints without metadata: 40 × 40, or tiles as they are."""
    return Preprocessing(size=40 if MEMBERS[member].task == "classify" else None)


def preprocessing_to_json(preprocessing: Preprocessing) -> str:
    """One line of JSON: size, scale, mean, std; and cell where it is more than 1."""
    fields = asdict(preprocessing)
    if preprocessing.cell == 1:
        del fields["cell"]
    return json.dumps(fields)


def preprocessing_from_json(text: str, member: str) -> Preprocessing:
    """The other way round. Raises InputError where a field is missing, or makes no sense."""
    try:
        fields = json.loads(text)
        preprocessing = Preprocessing(
            size=fields["size"],
            scale=float(fields["scale"]),
            mean=_triple(fields["mean"]),
            std=_triple(fields["std"]),
            cell=fields.get("cell", 1),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise InputError(
            f"preprocessing {text[:_SHOWN]!r}: expected JSON with size, scale, mean and std"
        ) from error
    if fault := _fault(preprocessing, member):
        raise InputError(f"preprocessing {text[:_SHOWN]!r}: {fault}")
    return preprocessing


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _fault(preprocessing: Preprocessing, member: str) -> str | None:
    size = preprocessing.size
    numbers = (preprocessing.scale, *preprocessing.mean, *preprocessing.std)
    if not all(isfinite(number) for number in numbers):
        return "a number isn't finite"
    if not 0 < preprocessing.scale <= MAX_SCALE:
        return f"scale must be above 0, and up to {MAX_SCALE}"
    if min(preprocessing.std) < MIN_STD or max(map(abs, numbers)) > MAX_NUMBER:
        return f"std must be from {MIN_STD:g} up, and each number at most {MAX_NUMBER}"
    segments = MEMBERS[member].task == "segment"
    cell = preprocessing.cell
    if not isinstance(cell, int) or cell not in (CELLS if segments else (1,)):
        return f"cell must be 1, or of a segmenter one of {', '.join(map(str, CELLS))}"
    if segments:
        return None if size is None else "size must be null for a segmenter"
    return _size_fault(size)


def _size_fault(size: object) -> str | None:
    if not isinstance(size, int) or size < MIN_SIZE:
        return f"size must be a whole number of pixels, at least {MIN_SIZE}"
    if size > MAX_SIZE:
        return f"size must be at most {MAX_SIZE}: larger ones need more memory than machines have"
    return None


def tensors_digest(state: Mapping[str, "Tensor"]) -> str:
    """SHA-256, in hexadecimal, of names, dtypes, shapes and values, in the names' order."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        flat = tensor.detach().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
