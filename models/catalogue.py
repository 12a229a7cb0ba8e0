"""What there is of each member: its checkpoint, and its network; old checkpoints converted."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..core.errors import InputError
from ..core.preprocessing import Preprocessing
from .checkpoints import Checkpoint, Store, load_state, read_checkpoint, save
from .ensemble import FILE
from .files import require_writable
from .members import MEMBERS, Member, find_member
from .metadata import preprocessing_from_json

Dtype = Literal["keep", "fp16", "fp32"]


@dataclass(frozen=True)
class Entry:
    """A member, and its checkpoint where a folder has one.

    ``weight`` is its weight in the folder's ensemble, 0 where it has no vote. ``fault`` says why
    a file that is there can't be used.
    """

    member: Member
    checkpoint: Checkpoint | None
    weight: float
    fault: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data for json.dumps."""
        about = {**asdict(self.member), "weight": self.weight, "fault": self.fault}
        del about["vote_weight"]
        if self.checkpoint is None:
            return {**about, "checkpoint": None}
        return {**about, "checkpoint": _to_json(self.checkpoint)}


def entries(store: Store) -> list[Entry]:
    """All members, in the order of the table of members."""
    try:
        ensemble = store.ensemble()
        vote_weights = dict(zip(ensemble.members, ensemble.vote_weights, strict=True))
    except InputError:  # nobody votes: see ensemble_fault
        vote_weights = {}
    return [_entry(store, member, vote_weights) for member in MEMBERS.values()]


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
    return next(each for each in entries(store) if each.member.name == name)


def architecture(name: str) -> str:
    """The member's layers, as torch prints them. Raises InputError for an unknown name."""
    from .registry import build

    return repr(build(name, "meta"))


def convert(
    old: Path,
    member: str,
    output: Path | None,
    *,
    dtype: Dtype = "keep",
    preprocessing: str | None = None,
    overwrite: bool = False,
) -> Checkpoint:
    """Write a member's checkpoint again as safetensors, with metadata; returns the new one.

    Without ``output`` it is MEMBER.safetensors beside the old one; a folder gets that name too.
    ``preprocessing`` is JSON; without it, the old file's metadata tell, or it is the reference's.
    Raises InputError for a file that can't be read, doesn't fit, or would be overwritten.
    """
    find_member(member)
    if old.is_dir():
        raise InputError(f"{old}: expected a file's name, found a folder")
    path = _output(old, member, output)
    _check_writable(path, overwrite)
    checkpoint = read_checkpoint(old, member)
    given = preprocessing_from_json(preprocessing, member) if preprocessing else None
    state = load_state(checkpoint)
    metadata = {**checkpoint.metadata, "source": f"{old.name} sha256:{checkpoint.digest}"}
    try:
        save(state, path, member, given or checkpoint.preprocessing, metadata, dtype=dtype)
    except InputError as error:  # it fits the member: only the dtype is too small
        raise InputError(f"{error}: give --dtype keep") from error
    return read_checkpoint(path, member)


def describe(preprocessing: Preprocessing) -> str:
    """A line for people: ``48 × 48, normalised``."""
    plain = preprocessing.mean == (0.0, 0.0, 0.0) and preprocessing.std == (1.0, 1.0, 1.0)
    size = preprocessing.size
    form = f"{size} × {size}" if size else f"any size, at scale {preprocessing.scale:g}"
    cell = f", logits even over cells of {preprocessing.cell}" if preprocessing.cell > 1 else ""
    return f"{form}, {'not normalised' if plain else 'normalised'}{cell}"


def _entry(store: Store, member: Member, vote_weights: Mapping[str, float]) -> Entry:
    weight = vote_weights.get(member.name, 0.0)
    if store.find(member.name) is None:
        return Entry(member, None, weight)
    try:
        return Entry(member, store.checkpoint(member.name), weight)
    except InputError as error:
        return Entry(member, None, weight, str(error))


def _output(old: Path, member: str, output: Path | None) -> Path:
    name = f"{member}.safetensors"
    if output is None:
        return old.with_name(name)
    if output.is_dir():
        return output / name
    if output.suffix != ".safetensors":
        raise InputError(f"--output {output}: expected a folder, or a name ending in .safetensors")
    return output


def _check_writable(path: Path, overwrite: bool) -> None:
    """Before the work, not after it."""
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: give another --output, or --overwrite")
    require_writable(path)


def _to_json(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "path": str(checkpoint.path),
        "digest": checkpoint.digest,
        "bytes": checkpoint.bytes,
        "preprocessing": asdict(checkpoint.preprocessing),
        "scores": checkpoint.scores,
    }
