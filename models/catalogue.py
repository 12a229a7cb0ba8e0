"""What there is of each member, and of other files in a folder: the checkpoint, the network."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from ..core.errors import InputError
from ..core.preprocessing import Preprocessing, Sides
from .checkpoints import Checkpoint
from .ensemble import BEST, FILE, Ensemble
from .members import MEMBERS, Member, find_member
from .store import Store


@dataclass(frozen=True)
class Entry:
    """A preset, or a file of another name (``member`` None), and its checkpoint where there is one.

    ``weight`` is its weight in the folder's ensemble, 0 where it has no vote. ``fault`` says why
    a file that is there can't be used.
    """

    name: str
    member: Member | None
    checkpoint: Checkpoint | None
    weight: float
    fault: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data for json.dumps."""
        about: dict[str, Any] = {"name": self.name}
        if self.member is not None:
            about = asdict(self.member)
            del about["vote_weight"]
        about |= {"weight": self.weight, "fault": self.fault}
        if self.member is None and self.checkpoint is not None:
            return {**about, "checkpoint": describe_file(self.checkpoint)}
        if self.checkpoint is None:
            return {**about, "checkpoint": None}
        return {**about, "checkpoint": _to_json(self.checkpoint)}


def entries(store: Store) -> list[Entry]:
    """All presets, in their table's order, then the folder's other files."""
    try:
        ensemble = store.ensemble()
        vote_weights = dict(zip(ensemble.members, ensemble.vote_weights, strict=True))
    except InputError:  # nobody votes: see ensemble_fault
        vote_weights = {}
    return [_entry(store, name, vote_weights) for name in (*MEMBERS, *store.files())]


def ensembles(store: Store) -> dict[str, Ensemble]:
    """The ensembles of the folder whose members are all there, by name; the default is first."""
    found = {}
    for name in (BEST, *store.ensemble_names()):
        with suppress(InputError):
            found[name] = store.ensemble(name=name)
    return found


def ensemble_fault(store: Store) -> str | None:
    """Why the folder's ensemble can't vote, where its ``ensemble.toml`` says that it should."""
    try:
        store.ensemble()
    except InputError as error:
        return str(error) if (store.folder / FILE).exists() else None
    return None


def entry(store: Store, name: str) -> Entry:
    """One member. Raises InputError with the nearest name where there is none."""
    find_member(name)
    return next(each for each in entries(store) if each.name == name)


def architecture(name: str) -> str:
    """The member's layers, as torch prints them. Raises InputError for an unknown name."""
    from .registry import build

    return repr(build(name, "meta"))


def describe(preprocessing: Preprocessing) -> str:
    """A line for people: ``224 × 224 of 256, bicubic, normalised``."""
    plain = preprocessing.mean == (0.0, 0.0, 0.0) and preprocessing.std == (1.0, 1.0, 1.0)
    cell = f"logits even over cells of {preprocessing.cell}" if preprocessing.cell > 1 else ""
    parts = [
        _framed(preprocessing),
        _shrunk(preprocessing.shrink),
        "" if preprocessing.interpolation == "bilinear" else preprocessing.interpolation,
        "" if preprocessing.order == "rgb" else "BGR",
        "" if preprocessing.white == 1 else f"0 to {preprocessing.white:g}",
        "not normalised" if plain else "normalised",
        cell,
    ]
    return ", ".join(filter(None, parts))


def _shrunk(shrink: int | Sides | None) -> str:
    if shrink is None:
        return ""
    sides = f"{shrink[0]} × {shrink[1]}" if isinstance(shrink, tuple) else f"a side of {shrink}"
    return f"larger images shrunk to {sides} first"


def _framed(preprocessing: Preprocessing) -> str:
    sides, resize = preprocessing.sides, preprocessing.resize
    whole = f"{resize[0]} × {resize[1]}" if isinstance(resize, tuple) else ""
    if sides is None:
        if resize is None:
            return f"any size, at scale {preprocessing.scale:g}"
        return f"resized to {whole}" if whole else f"shorter side resized to {resize}"
    size = f"{sides[0]} × {sides[1]}"
    if resize is None:
        return size
    return f"{size}, the middle of {whole or f'the image, its shorter side resized to {resize}'}"


def _entry(store: Store, name: str, vote_weights: Mapping[str, float]) -> Entry:
    weight, member = vote_weights.get(name, 0.0), MEMBERS.get(name)
    if store.find(name) is None:
        return Entry(name, member, None, weight)
    try:
        return Entry(name, member, store.checkpoint(name), weight)
    except InputError as error:
        return Entry(name, member, None, weight, str(error))


def describe_file(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint's file holds, plain data for json.dumps."""
    classes = checkpoint.classes
    return {
        "architecture": checkpoint.architecture,
        "task": checkpoint.task,
        "classes": list(classes.names),
        "colours": classes.colours,
        "unlabelled": classes.unlabelled,
        **_to_json(checkpoint),
    }


def _to_json(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "path": str(checkpoint.path),
        "digest": checkpoint.digest,
        "bytes": checkpoint.bytes,
        "preprocessing": asdict(checkpoint.preprocessing),
        "scores": checkpoint.scores,
    }
