"""What runs in the engine's processes, away from the driver; knows nothing of Ray."""

import faulthandler
import functools
import gc
import hashlib
import importlib
import logging
import os
import pickle
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from ..core.durable import TEMPORARY
from ..core.events import START, listening
from ..core.records import Committed, Decoded, Predicted, Predictor, Shard, Work, Written
from .proof import Proof, Sight, prove
from .ray_health import oom_kills

T = TypeVar("T")

Decoding = tuple[tuple[int, int, float, str], Decoded]
"""What the driver reads, how far a piece got, its bytes, seconds and notice; and the piece itself.
"""


@functools.lru_cache(maxsize=1)
def the_work(pickled: bytes) -> Work:
    """The job's work, unpickled once in each process."""
    work: Work = pickle.loads(pickled)
    return work


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """End this process if the block takes longer.

    faulthandler's watchdog is a thread in C: neither a decoder that never returns to Python nor
    one that holds the GIL keeps it from that; and its clock starts with the work, not with the
    wait for a place.
    """
    if seconds is not None:
        faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def decode(pickled: bytes, piece: Shard, limit: float | None) -> Decoding:
    """Decode a piece; in at most limit seconds."""
    began = time.monotonic()
    with limited(limit):
        decoded = the_work(pickled).decode(piece)
    size = sum(array.nbytes for array in decoded.arrays)
    return (decoded.piece.stop, size, time.monotonic() - began, decoded.notice), decoded


def write(
    pickled: bytes, predicted: Predicted, shard: Shard | None, seconds: float
) -> Written | Committed:
    """Write a piece, and where it is a whole shard, commit that."""
    work = the_work(pickled)
    written = work.write(predicted)
    return written if shard is None else work.commit(shard, [written], seconds)


def commit(pickled: bytes, shard: Shard, pieces: Sequence[Written], seconds: float) -> Committed:
    """Commit a shard of several pieces."""
    return the_work(pickled).commit(shard, pieces, seconds)


@contextmanager
def _said(folder: Path) -> Iterator[None]:
    """Let the driver know how far the start of this process is: a line in a file, while it lasts.

    Its name is that of a temporary file, so that what a kill leaves is swept.
    """
    handler = _StartFile(folder / "parts" / f".{START}-{platform.node()}-{os.getpid()}{TEMPORARY}")
    try:
        with listening(handler):
            yield
    finally:
        with suppress(OSError):
            handler.path.unlink()


class _StartFile(logging.Handler):
    """Writes what the last event of the start says."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", None) == "start":
            with suppress(OSError):
                self.path.write_text(record.getMessage())


def show(sight: Sight) -> tuple[Proof, int]:
    """What this machine shows of itself, and how often its kernel has run out of memory."""
    return prove(sight), oom_kills()


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Don't look for garbage among what stays in memory anyway: a sixth of torch's import."""
    gc.disable()
    try:
        yield
    finally:
        gc.collect()  # what loading left, before the rest is taken out of all searches
        gc.freeze()
        gc.enable()


def share_cores() -> None:
    """Have OpenMP's threads that wait for each other leave their core soon, before torch comes.

    While the members are read other threads need it: two of eight files' ten seconds. Once all is
    read it makes no difference.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


class ActorProcess:
    """The process of an actor: it predicts, or decodes suspects."""

    def __init__(self, threads: int):
        # Ray sets 1 where a process holds no processors; OpenMP reads it as torch is imported.
        os.environ["OMP_NUM_THREADS"] = str(threads)
        share_cores()
        self._predictor: Predictor | None = None

    def warm(self, modules: Sequence[str]) -> None:
        """Import modules that the work will need."""
        with _no_garbage():
            for module in modules:
                importlib.import_module(module)

    def probe(self, function: Callable[..., T], arguments: tuple[object, ...]) -> T:
        """Call a function of the package here, where the models will be."""
        return function(*arguments)

    def load(self, pickled: bytes, compare: bool) -> str:
        """Get ready to predict; to ``compare``, the digest of a sample's prediction, else ""."""
        work = the_work(pickled)
        with _said(work.folder), _no_garbage():
            self._predictor = work.load()
        if not compare:
            return ""
        arrays = self._predictor(work.sample()).arrays
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()

    def finish(self, pickled: bytes) -> None:
        """Leave what lets later jobs start faster."""
        the_work(pickled).finish()

    def prepare(self, pickled: bytes) -> None:
        """Get ready to decode."""
        the_work(pickled)

    def decode(self, pickled: bytes, piece: Shard, limit: float | None) -> Decoding:
        """Decode a piece; in at most limit seconds."""
        return decode(pickled, piece, limit)

    def predict(self, decoded: Decoded, limit: float | None) -> tuple[float, Predicted]:
        """Its seconds, for the driver, and the predicted piece; in at most limit seconds."""
        assert self._predictor is not None
        began = time.monotonic()
        with limited(limit):
            predicted = self._predictor(decoded)
        return time.monotonic() - began, predicted
