"""How this process's C library keeps memory that was freed."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Of mallopt(3): M_TRIM_THRESHOLD and M_MMAP_MAX."""


def keep_freed() -> None:
    """Have malloc keep what is freed, for what is asked for next, until the process ends.

    A layer's output has tens of megabytes. glibc takes each such from the kernel and returns it,
    and the kernel clears the pages every time (docs/training.md). Does nothing where the C library
    isn't glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)  # never
