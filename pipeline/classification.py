"""The classifiers' work on a shard: crops, the ensemble's vote, rows of the CSV."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..core import numerics
from ..core.classes import Classes
from ..core.errors import InputError
from ..core.preprocessing import Framing
from ..core.records import Committed, Decoded, Float32, Predicted, Predictor, Shard, UInt8, Written
from ..core.spec import ClassifySpec, Column
from ..models.checkpoints import Checkpoint, keep_copies
from ..models.ensemble import Ensemble
from .decode_pieces import decode_crops, sample_of
from .parts import commit_part
from .rows import format_row
from .views import with_mirror

if TYPE_CHECKING:
    from torch import Tensor

_SMALL = 64 * 64
"""Pixels of an input up to which two members side by side are faster than one after the other."""

_MANY = 4
"""Members from which two lanes end at about the same time."""

T = TypeVar("T")
Indices = NDArray[np.int64]
Outcome = Callable[[], tuple[Float32, Float32]]


@dataclass(frozen=True, slots=True)
class ClassifyWork:
    """Score images below ``root`` with an ensemble of classifiers; parts go to the job's folder.

    ``checkpoints`` are those of the ensemble's members, in its order. With ``tta`` in the spec each
    member looks at an image and at its mirror image; with ``cascade`` see ``pipeline.cascade``.
    """

    spec: ClassifySpec
    root: Path
    folder: Path
    checkpoints: tuple[Checkpoint, ...]
    ensemble: Ensemble
    profile: numerics.Profile

    @property
    def classes(self) -> Classes:
        """What the members, who agree, tell apart."""
        return self.checkpoints[0].classes

    @property
    def framings(self) -> tuple[Framing, ...]:
        """The distinct crops that the members see."""
        return tuple(dict.fromkeys(framing_of(checkpoint) for checkpoint in self.checkpoints))

    def decode(self, piece: Shard) -> Decoded:
        """Decode the piece's images once, into one crop for each distinct framing."""
        return decode_crops(
            piece, self.root, self.framings, draft=self.spec.draft, reading=self.spec.tiff
        )

    def sample(self) -> Decoded:
        """A pattern, in each of the framings' sizes: an image that nobody has."""
        return sample_of(*((1, *framing.size, 3) for framing in self.framings))

    def load(self) -> Predictor:
        """Load the ensemble."""
        if self.spec.cascade is None:
            return EnsemblePredictor(self)
        from .cascade import CascadePredictor

        return CascadePredictor(self)

    def finish(self) -> None:
        """Keep copies, in the cache, of checkpoints in old files."""
        keep_copies(self.checkpoints)

    def write(self, predicted: Predicted) -> Written:
        """Make the piece's rows: image_id, label, and the columns that were asked for."""
        probabilities, agreement, *rest = predicted.arrays
        alone = rest[0] if rest else np.zeros(len(probabilities), np.bool_)
        voters = len(self.checkpoints)
        # Stable: of two equal probabilities the lower class wins, as in argmax.
        ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.spec.top_k]
        names = self.classes.names
        extra: dict[Column, list[list[str]]] = {
            "confidence": [[f"{row.max():.6f}"] for row in probabilities],
            "agreement": [[f"{share:.6f}"] for share in agreement],
            "voters": [["1" if one else str(voters)] for one in alone],
            "name": [[names[label] for label in labels] for labels in ranked],
        }
        rows = tuple(
            format_row(
                (
                    image_id,
                    *map(str, labels),
                    *(field for name in self.spec.columns for field in extra[name][index]),
                )
            )
            for index, (image_id, labels) in enumerate(
                zip(predicted.image_ids, ranked, strict=True)
            )
        )
        scores = probabilities if self.spec.scores else None
        early = int(alone.sum())
        return Written(predicted.piece, rows, predicted.rejections, scores, early=early)

    def commit(self, shard: Shard, pieces: Sequence[Written], seconds: float) -> Committed:
        """Write the shard's part."""
        return commit_part(self.folder, shard, pieces, seconds)


class EnsemblePredictor:
    """The members, loaded; batches of a fixed shape, so that the bytes never depend on chance.

    Raises InputError for a bad checkpoint, EnvironmentFault where this machine cannot meet the
    job's numerics profile.
    """

    def __init__(self, work: ClassifyWork) -> None:
        import torch

        from ..models.inference import Transfers, ready_each

        numerics.require(work.profile)
        self._work = work
        total = sum(work.ensemble.vote_weights)
        self._vote_weights = [weight / total for weight in work.ensemble.vote_weights]
        with torch.inference_mode():
            members = ready_each(work.checkpoints, work.profile)
        self._members = [with_mirror(member) if work.spec.tta else member for member in members]
        self._transfers = Transfers(members[0].device)
        self._lanes = _lanes(work.profile)
        self._seconds = [0.0] * len(members)

    def __call__(self, decoded: Decoded) -> Predicted:
        """Predict the piece's images: probabilities (n, classes), agreement (n,); float32.

        Raises InputError where a member's outputs aren't finite, DeviceFull where a batch is too
        large for the GPU.
        """
        from ..models.inference import memory_faults

        probabilities = np.zeros((len(decoded.positions), len(self._work.classes)), np.float32)
        agreement = np.zeros(len(decoded.positions), np.float32)
        size = self._work.profile.batch_size
        advice = f"it has no room for a batch of {size}: give a smaller --batch-size"
        with memory_faults(advice):
            for chosen, slots, outcome in _one_behind(self._launched(decoded)):
                scores, agreed = outcome()
                probabilities[chosen] = scores[slots]
                agreement[chosen] = agreed[slots]
        arrays = (probabilities, agreement)
        return Predicted(decoded.piece, decoded.image_ids, arrays, decoded.rejections)

    def _launched(self, decoded: Decoded) -> Iterator[tuple[Indices, Indices, Outcome]]:
        """For each batch: its images in the piece, their places in the batch, and the vote."""
        positions = np.asarray(decoded.positions, np.int64)
        batch_size = self._work.profile.batch_size
        for batch in np.unique(positions // batch_size):
            chosen = np.flatnonzero(positions // batch_size == batch)
            slots = positions[chosen] % batch_size
            crops = {
                framing: on_grid(array[chosen], slots, batch_size)
                for framing, array in zip(self._work.framings, decoded.arrays, strict=True)
            }
            yield chosen, slots, self._vote(crops)

    def _vote(
        self, crops: Mapping[Framing, UInt8], known: "Mapping[int, Tensor] | None" = None
    ) -> Outcome:
        """What gives the ensemble's probabilities (B, classes) and agreement (B,) for a batch.

        ``known`` are logits (B, classes) that are there already, by the member's place. A GPU only
        begins to compute here. Nothing waits for it, which would keep it waiting for us.
        """
        import torch

        with torch.inference_mode():
            there = {framing: self._transfers.up(array) for framing, array in crops.items()}
            logits = self._logits(there, known or {})
            finite = torch.stack([each.isfinite().all() for each in logits])
            by_logits = self._work.ensemble.vote == "logits"
            ballots = [each if by_logits else each.softmax(1) for each in logits]
            total = torch.zeros_like(ballots[0])
            for weight, ballot in zip(self._vote_weights, ballots, strict=True):
                total += weight * ballot
            scores = total.softmax(1) if by_logits else total
            fetch = self._transfers.down(scores, self._agreement(logits, scores), finite)

        def outcome() -> tuple[Float32, Float32]:
            probabilities, agreement, checked = fetch()
            for checkpoint, sound in zip(self._work.checkpoints, checked, strict=True):
                require_sound(sound, checkpoint)
            return probabilities, agreement

        return outcome

    def _logits(
        self, there: "Mapping[Framing, UInt8 | Tensor]", known: "Mapping[int, Tensor]"
    ) -> "list[Tensor]":
        """Each member's, (B, classes): one member after the other, or side by side in lanes."""
        import torch

        def member(at: int) -> "Tensor":
            began = time.monotonic()
            with torch.inference_mode():  # it's a thread's own
                logits = self._members[at](there[framing_of(self._work.checkpoints[at])])
            self._seconds[at] = time.monotonic() - began
            return logits

        places = range(len(self._members))
        if self._lanes is None:
            return [known[at] if at in known else member(at) for at in places]
        # The longest first, so that the lanes end together; the order decides no bytes.
        order = sorted(set(places) - known.keys(), key=lambda at: -self._seconds[at])
        going = {at: self._lanes.submit(member, at) for at in order}
        try:
            return [known[at] if at in known else going[at].result() for at in places]
        finally:  # where one fails, the same may be tried again
            for each in going.values():
                each.cancel()
            wait(going.values())

    def _agreement(self, logits: "list[Tensor]", scores: "Tensor") -> "Tensor":
        """The share of the vote, 0 to 1, whose own label is the ensemble's, (B,)."""
        import torch

        label = scores.argmax(1)
        agreed = torch.zeros_like(scores[:, 0])
        for weight, each in zip(self._vote_weights, logits, strict=True):
            agreed += weight * (each.argmax(1) == label)
        return agreed


def _lanes(profile: numerics.Profile) -> ThreadPoolExecutor | None:
    """The threads of Python that compute members side by side; None where one is enough."""
    import torch

    if profile.lanes == 1:
        return None
    # How many threads torch takes is each thread's own.
    count = (profile.member_threads,)
    return ThreadPoolExecutor(profile.lanes, initializer=torch.set_num_threads, initargs=count)


def lanes_of(checkpoints: Sequence[Checkpoint], device: numerics.Device, threads: int) -> int:
    """The members that are computed at once, and share so many threads.

    Two where many see small images: threads would wait more for each other than they compute.
    """
    small = all(math.prod(framing_of(each).size) <= _SMALL for each in checkpoints)
    many = len(checkpoints) >= _MANY
    return 2 if device == "cpu" and threads % 2 == 0 and small and many else 1


def header(top_k: int, columns: Sequence[Column]) -> tuple[str, ...]:
    """The names of the CSV's columns."""
    ranks = ["", *(f"_{rank}" for rank in range(2, top_k + 1))]
    more = (each + rank for each in columns for rank in (ranks if each == "name" else ranks[:1]))
    return ("image_id", *(f"label{rank}" for rank in ranks), *more)


def framing_of(checkpoint: Checkpoint) -> Framing:
    """What a classifier sees of an image; InputError where its metadata doesn't tell."""
    framing = checkpoint.preprocessing.framing
    if checkpoint.task != "classify":
        raise InputError(f"{checkpoint.path} is a segmenter: give it to hw1 batch segment --model")
    if framing is None:
        raise InputError(
            f"{checkpoint.path}: its metadata gives no size of the input, which a classifier "
            "needs; train or import it again"
        )
    return framing


def require_finite_outputs(logits: "Tensor", checkpoint: Checkpoint) -> None:
    """Raise InputError, which names the member, where an output is no number: it has no label."""
    require_sound(logits.isfinite().all(), checkpoint)


def require_sound(sound: Any, checkpoint: Checkpoint) -> None:
    """The same, where it's known whether all are finite."""
    if not bool(sound):
        raise InputError(
            f"{checkpoint.member} ({checkpoint.path}): its outputs aren't finite, so they say "
            "nothing: its weights are damaged, or need --precision fp32"
        )


def _one_behind(launched: Iterable[T]) -> Iterator[T]:
    """The same, each when the next has been launched: a GPU has work while this one is fetched."""
    waiting: list[T] = []
    for each in launched:
        yield from waiting
        waiting = [each]
    yield from waiting


def on_grid(crops: UInt8, slots: Indices, size: int) -> UInt8:
    """A batch of ``size`` crops, blank but at the slots that the images take."""
    batch = np.zeros((size, *crops.shape[1:]), np.uint8)
    batch[slots] = crops
    return batch
