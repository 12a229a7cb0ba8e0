"""Large blocks that are taken and given back again and again cost their pages once."""

import subprocess
import sys

SCRIPT = """
import resource, torch
from hw1.core.allocator import keep_blocks
keep_blocks()
blocks = lambda: [torch.empty(50 * 2**20, dtype=torch.uint8).fill_(1) for _ in range(2)]
for _ in range(20):  # the first ones, aligned, take places of their own
    blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    blocks()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_large_blocks_are_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=100
    )
    assert int(done.stdout) < 2 * 50 * 2**20 / 4096  # else twenty times that
