"""A cascade: the ensemble's cheapest member decides alone where it is sure, all vote on the rest.

The plan is cut into units of so many images (``unit`` in the numerics profile), each some batches.
Within a unit the first member scores its batches, each image at its place, as every member does
where there is no cascade. Where its confidence is T or more, its probabilities are the image's, and
its agreement is 1: all who voted agree. The other images of the unit are packed, in their order,
into batches of the same size, which the other members score; the vote is the ensemble's.

So an image's place in its second batch depends on what else of its unit is undecided, and on that
alone: a shard is whole units, and bytes depend on neither shards nor workers. A piece that is less
than a unit (a worker crashed with it, and its images are tried in halves) is packed by itself.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..core.preprocessing import Framing
from ..core.records import Decoded, Float32, Predicted, UInt8
from .classification import (
    ClassifyWork,
    EnsemblePredictor,
    Indices,
    Outcome,
    framing_of,
    on_grid,
    require_sound,
)

if TYPE_CHECKING:
    from torch import Tensor


class CascadePredictor(EnsemblePredictor):
    """The members, loaded; see the module. ``least`` is the confidence that is enough."""

    def __init__(self, work: ClassifyWork) -> None:
        super().__init__(work)
        assert work.spec.cascade is not None
        self.least = work.spec.cascade
        names = [checkpoint.member for checkpoint in work.checkpoints]
        self._first = names.index(str(work.spec.cascade_first))
        self._alone: list[Indices] = []

    def __call__(self, decoded: Decoded) -> Predicted:
        """Predict the piece's images: also whether the first member decided alone, bool (n,)."""
        self._alone = []
        predicted = super().__call__(decoded)
        alone = np.zeros(len(decoded.positions), np.bool_)
        for sure in self._alone:
            alone[sure] = True
        return replace(predicted, arrays=(*predicted.arrays, alone))

    def _launched(self, decoded: Decoded) -> Iterator[tuple[Indices, Indices, Outcome]]:
        """First what is decided at once of each unit, then its packed batches."""
        positions = np.asarray(decoded.positions, np.int64)
        units = positions // self._work.profile.unit
        for unit in np.unique(units):
            images = np.flatnonzero(units == unit)
            logits, scores = self._asked_first(decoded, images, positions[images])
            sure = scores.max(1) >= self.least
            self._alone.append(images[sure])
            yield images[sure], np.flatnonzero(sure), _outcome_of(scores)
            yield from self._packed(decoded, images, np.flatnonzero(~sure), logits)

    def _asked_first(
        self, decoded: Decoded, images: Indices, positions: Indices
    ) -> "tuple[Tensor, Float32]":
        """The first member's logits (n, classes), on the device, and its probabilities."""
        import torch

        size = self._work.profile.batch_size
        checkpoint = self._work.checkpoints[self._first]
        crops = self._crops(decoded)[framing_of(checkpoint)]
        parts = []
        with torch.inference_mode():
            for batch in np.unique(positions // size):
                chosen = positions // size == batch
                slots = positions[chosen] % size
                there = self._transfers.up(on_grid(crops[images[chosen]], slots, size))
                found = self._members[self._first](there)
                parts.append(found[torch.from_numpy(slots).to(found.device)])
            logits = torch.cat(parts)
            scores, sound = self._transfers.down(logits.softmax(1), logits.isfinite().all())()
        require_sound(sound, checkpoint)
        return logits, scores

    def _packed(
        self, decoded: Decoded, images: Indices, left: Indices, logits: "Tensor"
    ) -> Iterator[tuple[Indices, Indices, Outcome]]:
        """The batches of the undecided: ``left`` are their places among the unit's images."""
        import torch

        size = self._work.profile.batch_size
        others = [
            framing_of(checkpoint)
            for at, checkpoint in enumerate(self._work.checkpoints)
            if at != self._first
        ]
        crops = self._crops(decoded)
        for begin in range(0, len(left), size):
            part = left[begin : begin + size]
            slots = np.arange(len(part))
            packed = {each: on_grid(crops[each][images[part]], slots, size) for each in others}
            with torch.inference_mode():
                known = logits.new_zeros((size, logits.shape[1]))
                known[: len(part)] = logits[torch.from_numpy(part).to(logits.device)]
            yield images[part], slots, self._vote(packed, {self._first: known})

    def _crops(self, decoded: Decoded) -> dict[Framing, UInt8]:
        return dict(zip(self._work.framings, decoded.arrays, strict=True))


def _outcome_of(scores: Float32) -> Outcome:
    agreement = np.ones(len(scores), np.float32)
    return lambda: (scores, agreement)
