"""How this process's C library keeps memory that was freed."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Of mallopt(3): M_TRIM_THRESHOLD and M_MMAP_MAX."""

ALL = -1


def keep_freed(most: int = 1 << 30) -> None:
    """Have malloc keep up to ``most`` bytes of what is freed for what is asked for next.

    A layer's output has tens of megabytes. glibc takes each such from the kernel and returns it,
    and the kernel clears the pages every time: a third of the time of fcn8s in bf16. ``ALL`` keeps
    everything until the process ends. Does nothing where the C library isn't glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, most)
