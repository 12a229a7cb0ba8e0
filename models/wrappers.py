"""State dicts as people save them: what lies around the tensors, and before their names.

Trainers put a state dict under a key, beside an optimiser's; DataParallel, torch.compile,
Lightning and averaged models put a prefix before each name.
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

KEYS = ("state_dict", "model_state_dict", "model", "net", "module", "ema")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
_AVERAGED = "n_averaged"  # of torch.optim.swa_utils.AveragedModel
_DEPTH = 5


def unwrap(loaded: Any, path: object) -> dict[str, "Tensor"]:
    """The state dict in what was read, without wrappers and the prefixes that all names have.

    Raises InputError, which names ``path``, where there is none.
    """
    import torch

    for _ in range(_DEPTH):
        if not isinstance(loaded, Mapping):
            break
        inner = next((loaded[k] for k in KEYS if isinstance(loaded.get(k), Mapping)), None)
        if inner is None:
            break
        loaded = inner
    if not isinstance(loaded, Mapping) or not loaded:
        found = "nothing" if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
        raise InputError(f"{path}: expected a state dict (tensors by name), found {found} in it")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            found = f"{name!r}, a {type(value).__name__}"
            raise InputError(f"{path}: expected a state dict (tensors by name), found {found}")
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
            raise InputError(f"{path}: {name} is not a dense tensor with values")
    return _without_prefixes({name: value.detach() for name, value in loaded.items()})


def align(
    state: Mapping[str, "Tensor"], expected: Collection[str]
) -> tuple[dict[str, "Tensor"], list[str]]:
    """The part of a state dict that a network's names are in, under the longest common prefix.

    A Lightning module holds its loss's tensors too, and its network under a name of its own. Gives
    the tensors by the network's names, and the names of those that were left out. Where no prefix
    helps, the state stays as it is.
    """
    known = set(expected)
    shared = len(known & state.keys())
    first = next(iter(expected), "")
    prefixes = {name[: len(name) - len(first)] for name in state if name.endswith("." + first)}
    best = ""
    for prefix in sorted(prefixes):
        count = sum(prefix + name in state for name in known)
        if count > shared:
            best, shared = prefix, count
    if not best:
        return dict(state), []
    inside = {n.removeprefix(best): tensor for n, tensor in state.items() if n.startswith(best)}
    return inside, [name for name in state if not name.startswith(best)]


def _without_prefixes(state: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
    for _ in range(_DEPTH):
        names = [name for name in state if name != _AVERAGED]
        prefix = next((p for p in PREFIXES if names and all(n.startswith(p) for n in names)), None)
        if prefix is None:
            break
        state = {name.removeprefix(prefix): state[name] for name in names}
    return state
