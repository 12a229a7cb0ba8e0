"""Has the C library keep the large blocks that networks take and give back in every batch.

glibc asks the kernel for each block above 32 MiB, and returns it at once: so each layer's output is
zeroed and mapped page by page again, which may take longer than computing it.
"""

import ctypes
from contextlib import suppress
from typing import Final

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h

_LARGEST: Final = 2**30
"""Bytes of a block that is kept: larger ones, of large images, would fill the memory for good."""

_KEPT: Final = 2**31 - 1
"""Bytes at the heap's end that are free and kept: the most that mallopt's int can say."""


def keep_blocks() -> None:
    """From now on, in this process; nothing where the C library isn't glibc."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)
