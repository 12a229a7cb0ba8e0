"""Fitting the ensemble: members' predictions on labelled images become ensemble.toml."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.errors import InputError
from ..core.numerics import cores, detect, resolve_device
from ..core.preprocessing import Framing
from ..models.checkpoints import Checkpoint, agreed_classes
from ..models.ensemble import FILE, Vote, of, write_ensemble
from ..models.files import require_writable
from ..models.inference import ready
from ..models.store import Store
from ..pipeline.classification import framing_of
from .greedy import Counts, Labels, Votes, accuracy, cross_validate, select
from .photos import Photos, load_photos
from .source import one_folder

BATCH = 125


@dataclass(frozen=True)
class EnsembleReport:
    """What was fitted, and what it is worth.

    ``singles`` are the members' accuracies alone. ``fitted`` is the ensemble's on the images that
    its weights were chosen on; ``cross_validated`` on images that had no part in it, beside equal
    weights (``uniform``) and the best member (``single``) under the same conditions.
    """

    images: int
    vote: str
    weights: Mapping[str, float]
    singles: Mapping[str, float]
    fitted: float
    cross_validated: float
    uniform: float
    single: float
    path: Path

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {**asdict(self), "path": str(self.path)}


def train_ensemble(
    data: Path,
    weights: Path,
    members: Sequence[str] | None,
    say: Callable[[str], None],
    *,
    vote: str = "auto",
    rounds: int = 13,
    folds: int = 5,
    seed: int = 0,
    device: str = "auto",
    output: Path | None = None,
) -> EnsembleReport:
    """Choose the members' weights on the labelled images of ``data``; write ensemble.toml.

    Raises InputError for no images, fewer images than folds, an unknown member or one without a
    checkpoint, a place that no file can be written to; EnvironmentFault where the disk is full.
    """
    folder = _folder(data)
    checkpoints = _checkpoints(Store(weights), members)
    path = output or weights / FILE
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: {path.parent} is no folder: make it first")
    require_writable(path)
    photos = _in_each_framing(folder, checkpoints)
    labels = next(iter(photos.values())).labels.numpy()
    if len(labels) < folds:
        raise InputError(f"{folder}: {len(labels)} images, fewer than --folds {folds}")
    logits = _logits(checkpoints, photos, device, say)
    names = [checkpoint.member for checkpoint in checkpoints]
    kinds: tuple[Vote, ...] = ("logits", "probabilities")
    asked = [kind for kind in kinds if vote in ("auto", kind)]
    report = max(
        (_fit(kind, names, logits, labels, rounds, folds, seed) for kind in asked),
        key=lambda fitted: fitted.cross_validated,
    )
    scores = {
        "fitted": report.fitted,
        "cross_validated": report.cross_validated,
        "best_member": report.single,
    }
    chosen: Vote = "logits" if report.vote == "logits" else "probabilities"
    write_ensemble(path, of(report.weights, chosen), scores)
    return EnsembleReport(**{**report.__dict__, "path": path})


def _fit(
    vote: Vote,
    names: Sequence[str],
    logits: Votes,
    labels: Labels,
    rounds: int,
    folds: int,
    seed: int,
) -> EnsembleReport:
    votes = logits if vote == "logits" else _softmax(logits)

    def choose(votes: Votes, labels: Labels) -> Counts:
        return select(votes, labels, rounds, logits=vote == "logits")

    counts = choose(votes, labels)
    worth = cross_validate(votes, labels, folds, seed, choose)
    alone = np.eye(len(names), dtype=np.int64)
    return EnsembleReport(
        images=len(labels),
        vote=vote,
        weights={name: float(n) for name, n in zip(names, counts, strict=True) if n},
        singles={n: accuracy(votes, row, labels) for n, row in zip(names, alone, strict=True)},
        fitted=accuracy(votes, counts, labels),
        cross_validated=worth.selected,
        uniform=worth.uniform,
        single=worth.single,
        path=Path(FILE),
    )


def _folder(data: Path) -> Path:
    """DATA itself, or the folder val* in it."""
    if not data.is_dir():
        raise InputError(f"{data}: no such folder of labelled images")
    return one_folder(data, "val") or data


def _checkpoints(folder: Store, members: Sequence[str] | None) -> list[Checkpoint]:
    """Those of the members, presets or files; else all classifiers in the folder."""
    if members is not None:
        names = list(dict.fromkeys(members))
        folder.require_classifiers(names)
        return [folder.checkpoint(name) for name in names]
    files = [folder.checkpoint(name) for name in folder.files()]
    found = [c for c in (*folder.available(), *files) if c.task == "classify"]
    if not found:
        raise InputError(
            f"no classifier's checkpoint in {folder.folder}: train one (hw1 train classify DATA "
            "--member NAME)"
        )
    return found


def _in_each_framing(folder: Path, checkpoints: Sequence[Checkpoint]) -> dict[Framing, Photos]:
    """The labelled images in each framing that a member sees them in."""
    classes = agreed_classes(checkpoints)
    return {
        framing: load_photos(
            folder, framing, every_class=False, tick=lambda *_: None, classes=classes
        )
        for framing in dict.fromkeys(map(framing_of, checkpoints))
    }


def _logits(
    checkpoints: Sequence[Checkpoint],
    photos: Mapping[Framing, Photos],
    device: str,
    say: Callable[[str], None],
) -> Votes:
    """The members' logits (members, images, classes), as batch classify computes them in fp32."""
    resolved = resolve_device(device)
    libraries = sorted({library for each in checkpoints if (library := each.library)})
    profile = detect(resolved, "fp32", BATCH, cores(), libraries)
    rows = []
    for checkpoint in checkpoints:
        images = photos[framing_of(checkpoint)].images
        say(f"{checkpoint.member}: scoring {len(images)} images")
        predict = ready(checkpoint, profile)
        pixels: NDArray[np.uint8] = images.permute(0, 2, 3, 1).contiguous().numpy()
        with torch.inference_mode():
            batches = [
                predict(pixels[first : first + BATCH]).cpu()
                for first in range(0, len(pixels), BATCH)
            ]
        rows.append(torch.cat(batches).double().numpy())
    return np.stack(rows)


def _softmax(logits: Votes) -> Votes:
    powers = np.exp(logits - logits.max(2, keepdims=True))
    probabilities: Votes = powers / powers.sum(2, keepdims=True)
    return probabilities
