import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from hw1.execution import signals

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def test_signals_are_ignored_for_a_while() -> None:
    before = [signal.getsignal(number) for number in ENDS]
    with signals.uninterrupted():
        for number in ENDS:
            os.kill(os.getpid(), number)
    assert [signal.getsignal(number) for number in ENDS] == before


PROGRAM = """
import ctypes, os, signal, sys
from hw1.execution import signals

libc = ctypes.CDLL(None)
handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: None)
libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.signal(signal.SIGTERM, ctypes.cast(handler, ctypes.c_void_p))
# As Python learns of it where C set it before Python began.
signal.getsignal = lambda number: None
real = signal.signal
signal.signal = lambda number, new: (real(number, new), None)[1]
with getattr(signals, sys.argv[1])():
    pass
signal.signal = real
assert real(signal.SIGTERM, signal.SIG_DFL) == signal.SIG_DFL
"""


@pytest.mark.parametrize("name", ["terminate_as_interrupt", "uninterrupted", "kept_interrupt"])
def test_a_handler_that_was_set_from_c_becomes_the_default(name: str) -> None:
    """Python can't set it again: signal.signal and signal.getsignal give None for it."""
    subprocess.run([sys.executable, "-c", PROGRAM, name], check=True, timeout=30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_a_closed_terminal_interrupt(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), signals.terminate_as_interrupt():
        os.kill(os.getpid(), number)


def test_a_closed_terminal_is_ignored_where_nohup_had_it_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.terminate_as_interrupt(), signals.kept_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", ENDS)
def test_an_interrupt_that_was_lost_is_raised_at_the_end(number: signal.Signals) -> None:
    lost = contextlib.suppress(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt), signals.kept_interrupt(), lost:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    "manager",
    [signals.terminate_as_interrupt, signals.uninterrupted, signals.kept_interrupt],
    ids=lambda manager: manager.__name__,
)
def test_in_another_thread_the_handlers_stay(
    manager: Callable[[], contextlib.AbstractContextManager[None]],
) -> None:
    """Python lets the main thread alone set them."""

    def handlers() -> tuple[object, ...]:
        with manager():
            return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(handlers).result() == before
