"""A state dict and an architecture: whether they fit, and the network of both."""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..core.errors import InputError
from ..core.preprocessing import Sides
from ..core.text import first_line
from .collapse import CHANNELS, POOLED, WEIGHT, collapsed_side, expand_state
from .members import MEMBERS
from .registry import build, class_axes, layout, tensors

_COUNTER = "num_batches_tracked"  # of batch norms; checkpoints before torch 0.4.1 have none
_SHOWN = 3
_SAID = 150  # characters of a library's reason
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_ALIKE = 0.8

Shapes = Mapping[str, tuple[int, ...]]


def fit(
    state: Mapping[str, Tensor],
    word: str,
    source: object,
    classes: int | None = None,
    sides: Sides | None = None,
) -> nn.Module:
    """The architecture's network with these weights: eval mode, float32, CPU.

    A collapsed vgg19_bn is expanded into the table's layout. ``source`` is what the error names;
    see `registry.build` for the other arguments. Raises InputError as `check` does, and for values
    that aren't finite.
    """
    check(state, word, source, classes, sides)
    whole = {name: _single(tensor) for name, tensor in state.items()}
    if word in MEMBERS:
        whole = expand_state(whole)
    for name in layout(word, classes, sides):
        if name.endswith(_COUNTER):
            whole.setdefault(name, torch.tensor(0))
    require_finite(whole, source)
    network = build(word, "meta", classes, sides)
    fill(network, whole, assign=True)
    if _lacks_values(network):  # they aren't in the state: the constructor makes them
        network = build(word, "cpu", classes, sides)
        fill(network, whole, assign=True)
    return network.eval()


def fill(
    network: nn.Module, state: Mapping[str, Tensor], *, assign: bool = False, strict: bool = True
) -> None:
    """Load a state dict whose names and shapes fit the network, as the version that it has today.

    Files say no version, and torchvision's MNASNet refuses one without.
    """
    versioned = OrderedDict(state)
    versioned._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]
    network.load_state_dict(versioned, assign=assign, strict=strict)


def try_out(network: nn.Module, word: str, sides: Sides) -> None:
    """Raise InputError where the network can't take an image of this size, by giving it one."""
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 3, *sides))
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        said = first_line(error, _SAID)
        raise InputError(
            f"{word} takes no images of {sides[0]} × {sides[1]} pixels ({said}): give another "
            "--size"
        ) from error


def check(
    state: Mapping[str, Tensor],
    word: str,
    source: object,
    classes: int | None = None,
    sides: Sides | None = None,
) -> None:
    """Raise InputError where names, shapes or kinds of the tensors aren't the architecture's.

    It names the first that differ, and the preset that the state dict looks like.
    """
    found = _shapes(state, word)
    expected = layout(word, classes, sides)
    missing = [name for name in expected if name not in found and not name.endswith(_COUNTER)]
    foreign = [name for name in found if name not in expected]
    other = [
        f"{name} is {tuple(state[name].shape)}, not {expected[name]}"
        for name in found
        if name in expected and found[name] != expected[name]
    ]
    parts = [_some("it lacks", missing), _some("it has", foreign), _some("", other)]
    if differences := "; ".join(part for part in parts if part):
        raise InputError(f"{source} doesn't fit {word}: {differences}{_hint(state, word)}")
    own = tensors(word, classes, sides)
    for name, tensor in state.items():
        if own[name].is_floating_point() and tensor.dtype not in _FLOATS:
            kinds = "expected floating point of 16, 32 or 64 bits"
            raise InputError(f"{source}: {name} holds {tensor.dtype}, {kinds}")


def count_classes(
    state: Mapping[str, Tensor], word: str, source: object, sides: Sides | None = None
) -> int:
    """The number of classes that a state dict of this architecture has, off its last layer.

    Raises InputError where it has no such layer, or the layers disagree.
    """
    axes = class_axes(word, sides)
    found = {
        state[name].shape[axis]
        for name, axis in axes.items()
        if name in state and state[name].dim() > axis
    }
    if not found:
        raise InputError(
            f"{source} doesn't fit {word}: it lacks {next(iter(axes))}, the last layer"
            f"{_hint(state, word)}"
        )
    if len(found) > 1:
        raise InputError(
            f"{source}: the last layers of {word} have {' and '.join(map(str, sorted(found)))} "
            "outputs, expected one number of classes"
        )
    return int(found.pop())


def require_finite(state: Mapping[str, Tensor], source: object) -> None:
    """Raise InputError where a value is not a number, or infinite."""
    for name, tensor in state.items():
        if not _finite(tensor):
            raise InputError(f"{source}: values in {name} aren't finite: the file can't be used")


def cast(state: Mapping[str, Tensor], dtype: torch.dtype, source: object) -> dict[str, Tensor]:
    """Floating-point tensors in another dtype. Raises InputError where a value doesn't fit it."""
    changed = {}
    for name, tensor in state.items():
        changed[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        if not _finite(changed[name]):
            raise InputError(f"{source}: {name} has values beyond {dtype}")
    return changed


def looks_like(found: Shapes) -> tuple[str, float]:
    """The member whose layout is nearest, and how near: shared entries over all, 0 to 1."""
    entries = set(found.items())

    def share(name: str) -> float:
        other = {
            (key, shape)
            for key, shape in layout(name).items()
            if key in found or not key.endswith(_COUNTER)
        }
        return len(entries & other) / len(entries | other)

    best = max(MEMBERS, key=share)
    return best, share(best)


def _hint(state: Mapping[str, Tensor], word: str) -> str:
    best, share = looks_like(_shapes(state, next(iter(MEMBERS))))
    if best == word or share < _ALIKE:
        return ""
    return f". It {'fits' if share == 1 else 'looks like'} {best}"


def _lacks_values(network: nn.Module) -> bool:
    """Whether a tensor that is no part of the state dict was built on "meta"."""
    tensors = [*network.parameters(), *network.buffers()]
    for module in network.modules():
        tensors += [value for value in vars(module).values() if isinstance(value, Tensor)]
    return any(tensor.is_meta for tensor in tensors)


def _shapes(state: Mapping[str, Tensor], word: str) -> Shapes:
    """Shapes by name, those of a preset's collapsed weight as in the table's layout."""
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if word in MEMBERS and collapsed_side(shapes.get(WEIGHT, ())):
        shapes[WEIGHT] = (shapes[WEIGHT][0], CHANNELS * POOLED**2)
    return shapes


def _single(tensor: Tensor) -> Tensor:
    return tensor.float().contiguous() if tensor.is_floating_point() else tensor.contiguous()


def _finite(tensor: Tensor) -> bool:
    """Whether all values are; from the extremes, 15 times as fast as ``isfinite().all()``."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return all(math.isfinite(extreme.item()) for extreme in tensor.aminmax())


def _some(verb: str, items: Sequence[str]) -> str:
    """The first items of a list, and how many more there are; empty for none."""
    if not items:
        return ""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{verb} {', '.join(items[:_SHOWN])}{more}".strip()
