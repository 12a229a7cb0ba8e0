"""A few of the faults of ``make chaos``, seeded."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(300)
def test_jobs_survive_and_their_bytes_are_equal() -> None:
    command = [sys.executable, str(Path(__file__).with_name("run.py")), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 survived, 0 not, 0 not tried" in done.stdout
