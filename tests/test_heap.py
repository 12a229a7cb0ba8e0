import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import numpy as np
from hw1.jobs.training import heap
if sys.argv[1] == "keep":
    heap.keep_freed()
def use():
    np.ones(64 << 20, np.uint8)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_was_freed_is_used_again() -> None:
    def faults(word: str) -> int:
        words = [sys.executable, "-c", _FAULTS, word]
        environment = {"NUMPY_MADVISE_HUGEPAGE": "0"}
        done = subprocess.run(words, capture_output=True, check=True, env=environment)
        return int(done.stdout)

    assert faults("keep") * 10 < faults("as it is")
