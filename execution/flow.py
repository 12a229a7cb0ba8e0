"""Which of decoding and the models kept the other waiting: from how long each was busy."""

from dataclasses import dataclass

BUSY = 0.8
"""Of its places' time: a step that was so busy had no more to give."""

ENOUGH = 10
"""Pieces: of fewer it can't be told."""


@dataclass(slots=True)
class Flow:
    """What a run's decoding and predicting took, measured in the processes that do it.

    Seconds are sums over the pieces, ``decoders`` and ``predictors`` the places there are for each.
    ``began`` and ``ended`` are the engine's clock when the first piece had been predicted, and the
    last; what was done before, while the models were loaded, isn't counted.
    """

    pieces: int = 0
    decoded_images: int = 0
    decode_seconds: float = 0.0
    predicted_images: int = 0
    predict_seconds: float = 0.0
    decoders: int = 1
    predictors: int = 1
    began: float | None = None
    ended: float = 0.0

    def decoded(self, images: int, seconds: float) -> None:
        """Count a piece that has been decoded."""
        if self.began is not None:
            self.decoded_images += images
            self.decode_seconds += seconds

    def predicted(self, images: int, seconds: float, now: float) -> None:
        """Count a piece that has been predicted by ``now``."""
        if self.began is None:
            self.began = now
            return
        self.pieces += 1
        self.predicted_images += images
        self.predict_seconds += seconds
        self.ended = now

    @property
    def bound(self) -> str:
        """``decode`` or ``model``: what the other waited for; "" where that can't be told.

        The models, where they were busy for BUSY of the time; else decoding, where that was.
        """
        span = self.ended - (self.ended if self.began is None else self.began)
        if self.pieces < ENOUGH or span <= 0:
            return ""
        if self.predict_seconds >= BUSY * span * self.predictors:
            return "model"
        return "decode" if self.decode_seconds >= BUSY * span * self.decoders else ""

    @property
    def text(self) -> str:
        """The same in a line: what is slower, and how fast that is."""
        if self.bound == "decode":
            rate = self.decoded_images / self.decode_seconds * self.decoders
            cores = f"{self.decoders} cores decode" if self.decoders > 1 else "one core decodes"
            return f"decode-bound: {cores} {rate:.0f} images a second, the models waited"
        if self.bound == "model":
            rate = self.predicted_images / self.predict_seconds * self.predictors
            return f"model-bound: the models score {rate:.1f} images a second, decoding waited"
        return ""
