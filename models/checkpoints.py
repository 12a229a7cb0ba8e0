"""Finds the checkpoints of a folder, and the ensemble that they form; loads and saves them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..core.errors import InputError
from ..core.preprocessing import Preprocessing
from . import files
from .ensemble import FILE, REFERENCE, Ensemble, of, read_ensemble
from .members import CLASSIFIERS, MEMBERS, find_member
from .metadata import (
    preprocessing_from_json,
    preprocessing_to_json,
    reference_preprocessing,
    tensors_digest,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "SHIPPED",
    "Checkpoint",
    "Ensemble",
    "Store",
    "load",
    "load_state",
    "read_checkpoint",
    "save",
]

SHIPPED = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class Checkpoint:
    """A member's weights in a file. ``digest`` is the file's SHA-256, in hexadecimal."""

    member: str
    path: Path
    digest: str
    preprocessing: Preprocessing
    metadata: Mapping[str, str] = field(hash=False)
    bytes: int

    @property
    def scores(self) -> dict[str, float]:
        """What it scored, by data set, in finite numbers; empty where its metadata don't say."""
        try:
            scores = json.loads(self.metadata.get("scores", "{}"))
            found = {str(name): float(value) for name, value in scores.items()}
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return {}
        return {name: value for name, value in found.items() if isfinite(value)}


class Store:
    """A folder with checkpoints: ``MEMBER.safetensors``, or the reference's names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise InputError(f"no folder {folder}: expected one with checkpoints")
        if folder != SHIPPED and not any(self.find(name) for name in MEMBERS):
            raise InputError(
                f"no checkpoint in {folder}: expected files such as vgg16.safetensors or "
                f"{MEMBERS['vgg16'].reference_file}"
            )

    @classmethod
    def shipped(cls) -> "Store":
        """The checkpoints that come with hw1."""
        return cls(SHIPPED)

    @classmethod
    def at(cls, folder: Path | None) -> "Store":
        """The checkpoints of a folder, or of None: those that come with hw1.

        Absolute: a worker may run in another folder.
        """
        return cls.shipped() if folder is None else cls(folder.absolute())

    def find(self, member: str) -> Path | None:
        """The member's file, if there is one; ours goes before the reference's."""
        for name in _file_names(member):
            if (self.folder / name).is_file():
                return self.folder / name
        return None

    def checkpoint(self, member: str) -> Checkpoint:
        """The member's checkpoint, its file hashed, its tensors not yet read.

        Raises InputError for an unknown member, one without a checkpoint, a damaged header.
        """
        find_member(member)
        path = self.find(member)
        if path is None:
            raise InputError(_missing(member, self.folder))
        return read_checkpoint(path, member)

    def available(self) -> list[Checkpoint]:
        """All checkpoints here, in the order of the table of members."""
        return [self.checkpoint(member) for member in MEMBERS if self.find(member)]

    def ensemble(self, members: Sequence[str] | None = None) -> Ensemble:
        """Who votes, with which weights, and by what.

        Without ``members``: as ``ensemble.toml`` says; where there is none, all classifiers that
        have a checkpoint here, with the reference's weights, or 1 for one that the reference
        hasn't. With ``members``: those, with the same weights, or 1 where there is none above 0.
        Raises InputError for an unknown, repeated or missing member, and a bad ``ensemble.toml``.
        """
        toml = self.folder / FILE
        known = read_ensemble(toml) if toml.is_file() else REFERENCE
        vote_weights = dict(zip(known.members, known.vote_weights, strict=True))
        if members is not None:
            _check_names(members)
            vote_weights = {name: vote_weights.get(name, 1.0) for name in members}
        elif known is REFERENCE:
            vote_weights = {n: vote_weights.get(n, 1.0) for n in CLASSIFIERS if self.find(n)}
            if not vote_weights:
                raise InputError(f"no classifier's checkpoint in {self.folder}: {_how('MEMBER')}")
        absent = [name for name in CLASSIFIERS if name in vote_weights and not self.find(name)]
        if absent:
            asked = f", which {toml} lists" if members is None else ""
            raise InputError(_missing(absent[0], self.folder, asked))
        return of(vote_weights, known.vote)


def read_checkpoint(path: Path, member: str | None = None) -> Checkpoint:
    """The checkpoint in a file of any name. Raises InputError where its member isn't ``member``.

    Without ``member``, the metadata or the file's name must tell it. A file without metadata gets
    the reference's preprocessing.
    """
    digest = files.file_digest(path)
    metadata = files.read_metadata(path)
    member = _member_of(path, metadata, member)
    if text := metadata.get("preprocessing"):
        try:
            preprocessing = preprocessing_from_json(text, member)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    else:
        preprocessing = reference_preprocessing(member)
    return Checkpoint(member, path, digest, preprocessing, metadata, path.stat().st_size)


def load(checkpoint: Checkpoint) -> "nn.Module":
    """The network with the checkpoint's weights: eval mode, float32, CPU.

    Raises InputError where the file has changed since it was found, is damaged, holds more than
    tensors, or doesn't fit the member (with the first names that differ).
    """
    from .fit import fit

    state = _verified(checkpoint)
    return fit(state, checkpoint.member, checkpoint.path)


def load_state(checkpoint: Checkpoint) -> dict[str, "Tensor"]:
    """The checkpoint's tensors as they are stored (a vgg19_bn's perhaps collapsed).

    Raises InputError as `load` does.
    """
    from .fit import check, require_finite

    state = _verified(checkpoint)
    check(state, checkpoint.member, checkpoint.path)
    require_finite(state, checkpoint.path)
    return state


def save(
    network: "nn.Module | Mapping[str, Tensor]",
    path: Path,
    member: str,
    preprocessing: Preprocessing,
    metadata: Mapping[str, str],
    *,
    dtype: Literal["fp16", "fp32", "keep"] = "fp16",
) -> None:
    """Write a member's checkpoint as safetensors, whole or not at all, with its metadata.

    Takes a network or its state dict (a vgg19_bn's may be collapsed) and adds the member, its
    classes, the preprocessing and the tensors' digest to the metadata. Equal input gives equal
    bytes. Raises InputError where it doesn't fit the member, or a value the dtype.
    """
    import torch

    from .fit import cast, check

    state = dict(network.state_dict() if isinstance(network, torch.nn.Module) else network)
    state = {name: tensor.detach().cpu() for name, tensor in state.items()}
    check(state, member, "the state dict")
    if dtype != "keep":
        state = cast(state, {"fp16": torch.float16, "fp32": torch.float32}[dtype], path)
    about = {
        **metadata,
        "member": member,
        "classes": str(MEMBERS[member].classes),
        "preprocessing": preprocessing_to_json(preprocessing),
        "digest": tensors_digest(state),
    }
    files.write(state, path, about)


def _verified(checkpoint: Checkpoint) -> dict[str, "Tensor"]:
    """The tensors of a checkpoint whose bytes are those that its digests tell."""
    import hashlib

    path = checkpoint.path
    content = files.read_bytes(path)
    found = hashlib.sha256(content).hexdigest()
    if found != checkpoint.digest:
        raise InputError(
            f"{path} has changed: its SHA-256 was {checkpoint.digest[:12]}…, now {found[:12]}…"
        )
    state, metadata = files.parse(content, path)
    if metadata.get("digest", "") not in ("", digest := tensors_digest(state)):
        raise InputError(
            f"{path} is damaged: its tensors' digest is {digest[:12]}…, its metadata say "
            f"{metadata['digest'][:12]}…: copy it again"
        )
    return state


def _file_names(member: str) -> list[str]:
    reference = MEMBERS[member].reference_file
    return [f"{member}.safetensors", *([reference] if reference else [])]


def _member_of(path: Path, metadata: Mapping[str, str], member: str | None) -> str:
    """The member whose checkpoint a file is: as asked, as its metadata say, or by its name."""
    said = metadata.get("member")
    if member is not None and said is not None and said != member:
        raise InputError(f"{path} is a checkpoint of {said}, by its metadata, not of {member}")
    named = next((name for name in MEMBERS if path.name in _file_names(name)), None)
    name = member or said or named
    if name is None:
        raise InputError(f"{path} doesn't say which member's checkpoint it is: {_how('MEMBER')}")
    return find_member(name).name


def _check_names(members: Sequence[str]) -> None:
    if not members:
        raise InputError("no members: give at least one of " + ", ".join(CLASSIFIERS))
    for name in members:
        if find_member(name).task != "classify":
            raise InputError(f"{name} is a segmenter: expected among {', '.join(CLASSIFIERS)}")
        if list(members).count(name) > 1:
            raise InputError(f"{name} is named twice: its weight is set in {FILE}")


def _missing(member: str, folder: Path, asked: str = "") -> str:
    names = _file_names(member)
    found = f"neither {names[0]} nor {names[1]} is" if len(names) > 1 else f"no {names[0]} is"
    return f"no checkpoint of {member}{asked}: {found} in {folder}. {_how(member)}"


def _how(member: str) -> str:
    """How one gets a checkpoint."""
    task = MEMBERS[member].task if member in MEMBERS else "classify"
    option = "--model" if task == "segment" else "--member"
    return (
        f"Train it (hw1 train {task} DATA {option} {member}), convert one (hw1 models import "
        f"OLD.pth --member {member}), or name the folder that has it (--weights DIR)"
    )
