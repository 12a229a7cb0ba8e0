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
        key = _key(loaded, path)
        if key is None:
            break
        loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        found = "nothing" if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
        raise InputError(f"{path}: expected a state dict (tensors by name), found {found} in it")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            found = f"{name!r}, a {type(value).__name__}"
            raise InputError(
                f"{path}: expected a state dict (tensors by name), found {found}: where it came "
                "from, save torch.save(model.state_dict(), FILE)"
            )
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
            raise InputError(f"{path}: {name} is not a dense tensor with values")
    return _without_prefixes({name: value.detach() for name, value in loaded.items()})


def others(loaded: Any) -> list[str]:
    """The names of state dicts beside the one that `unwrap` takes, such as an average's."""
    taken = _key(loaded, "")
    return [] if taken is None else [name for name in _states(loaded) if name != taken]


def align(
    state: Mapping[str, "Tensor"], expected: Collection[str]
) -> tuple[dict[str, "Tensor"], list[str]]:
    """The part of a state dict that a network's names are in, under their common prefix.

    A Lightning module holds its loss's tensors too, its network under a name of its own, perhaps
    an average as another: of several that fit, the first counts. Gives the tensors by the network's
    names, and the names of those that were left out. Where no prefix helps, the state stays as it
    is.
    """
    known = set(expected)
    shared = len(known & state.keys())
    first = next(iter(expected), "")
    prefixes = [name[: len(name) - len(first)] for name in state if name.endswith("." + first)]
    best = ""
    for prefix in prefixes:
        count = sum(prefix + name in state for name in known)
        if count > shared:
            best, shared = prefix, count
    if not best:
        return dict(state), []
    inside = {n.removeprefix(best): tensor for n, tensor in state.items() if n.startswith(best)}
    return inside, [name for name in state if not name.startswith(best)]


def _key(loaded: Any, path: object) -> str | None:
    """Under which name a state dict lies in what was read; None where there is no such wrapper.

    Raises InputError where several lie there under names that say nothing.
    """
    if not isinstance(loaded, Mapping):
        return None
    known = [key for key in KEYS if isinstance(loaded.get(key), Mapping)]
    if filled := [key for key in known if loaded[key]] or known:
        return filled[0]
    found = _states(loaded)
    if len(found) > 1:
        raise InputError(
            f"{path} holds several state dicts ({', '.join(found)}): save the one that you want, "
            f'as torch.save(torch.load(FILE, weights_only=True)["{found[0]}"], OTHER)'
        )
    return found[0] if found else None


def _states(loaded: Mapping[Any, Any]) -> list[str]:
    """The names of what are tensors by name."""
    import torch

    return [
        name
        for name, value in loaded.items()
        if isinstance(name, str)
        and isinstance(value, Mapping)
        and value
        and all(isinstance(tensor, torch.Tensor) for tensor in value.values())
    ]


def _without_prefixes(state: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
    for _ in range(_DEPTH):
        names = [name for name in state if name != _AVERAGED]
        prefix = next((p for p in PREFIXES if names and all(n.startswith(p) for n in names)), None)
        if prefix is None:
            break
        state = {name.removeprefix(prefix): state[name] for name in names}
    return state
