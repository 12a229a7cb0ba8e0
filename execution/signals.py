"""Ctrl-C and SIGTERM (a preempted node, a closing shell) for the length of a with-statement."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | signal.Handlers

BOTH = (signal.SIGINT, signal.SIGTERM)


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
    """Let SIGTERM raise KeyboardInterrupt in the main thread, as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with handled(interrupt, signal.SIGTERM):
        yield


@contextmanager
def kept_interrupt() -> Iterator[None]:
    """Let neither be lost in what sets handlers too, or calls hooks: it is raised at the end again.

    What a handler raises is lost where it interrupts a hook of Python's (around a fork, at an
    object's end). A signal that is ignored stays so.
    """
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    heeded = [number for number in BOTH if signal.getsignal(number) is not signal.SIG_IGN]
    try:
        with handled(interrupt, *heeded):
            yield
    finally:
        if came:
            raise KeyboardInterrupt


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore both: what is stopped by halves leaves processes."""
    with handled(signal.SIG_IGN, *BOTH):
        yield
