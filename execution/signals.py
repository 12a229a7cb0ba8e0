"""What asks a job to end, for the length of a with-statement: Ctrl-C, SIGTERM, a closed terminal.

A preempted node sends SIGTERM, a lost SSH session SIGHUP, which `nohup` has had ignored.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | signal.Handlers

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def handled(handler: Handler, *numbers: signal.Signals) -> Iterator[None]:
    """Let a handler have the signals. Those from before come back, but for one that was set from C.

    Python can't name such a one (it is None), nor set it again: the default takes its place.
    Outside the main thread, which alone may set handlers and gets signals, all stays as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread, as Ctrl-C does.

    But for a SIGHUP that is ignored.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with handled(interrupt, *{signal.SIGTERM, *_heeded()} - {signal.SIGINT}):
        yield


@contextmanager
def kept_interrupt() -> Iterator[None]:
    """Let none be lost in what sets handlers too, or calls hooks: it is raised at the end again.

    What a handler raises is lost where it interrupts a hook of Python's (around a fork, at an
    object's end). A signal that is ignored stays so.
    """
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    try:
        with handled(interrupt, *_heeded()):
            yield
    finally:
        if came:
            raise KeyboardInterrupt


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore them: what is stopped by halves leaves processes."""
    with handled(signal.SIG_IGN, *ENDS):
        yield


def _heeded() -> list[signal.Signals]:
    return [number for number in ENDS if signal.getsignal(number) is not signal.SIG_IGN]
