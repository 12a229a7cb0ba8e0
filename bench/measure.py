"""Figures, and commands timed in processes of their own."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

BENCH = Path(__file__).parent
BUILD = BENCH.parent / "build" / "bench"
SAMPLE_SECONDS = 0.1
console = Console(stderr=True)


@dataclass(frozen=True)
class Figure:
    """One thing measured. ``asked`` says what is asked for; ``met`` is None where nothing is."""

    bench: str
    what: str
    value: float
    unit: str
    runs: tuple[float, ...] = ()
    asked: str = ""
    met: bool | None = None


def script(name: str) -> list[str]:
    """The command that runs one of the bench's scripts."""
    return [sys.executable, str(BENCH / name)]


def race(
    commands: dict[str, list[str]], runs: int, clean: Callable[[], None]
) -> dict[str, tuple[float, ...]]:
    """Seconds of each command, run in turns; what the last round wrote stays."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(runs):
        clean()
        for name, command in commands.items():
            console.print(f"  {name}, run {run + 1} of {runs}", style="dim")
            began = time.perf_counter()
            with start(command) as process:
                process.wait()
            times[name].append(time.perf_counter() - began)
            succeed(process)
    return {name: tuple(each) for name, each in times.items()}


def start(command: list[str]) -> "subprocess.Popen[str]":
    """Start a command; what it says on stderr is kept for the case that it fails."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=(BUILD / "stderr.log").open("w"),
        text=True,
    )


def peaks_of(process: "subprocess.Popen[str]") -> list[int]:
    """Wait for a process; the peak of resident memory, in bytes, of it and each descendant."""
    peaks: dict[int, int] = {process.pid: 0}
    while process.poll() is None:
        for pid in _family(process.pid):
            peaks[pid] = max(peaks.get(pid, 0), _peak(pid))
        time.sleep(SAMPLE_SECONDS)
    return list(peaks.values())


def _family(ancestor: int) -> list[int]:
    """A process and its descendants, as they are now."""
    family = [ancestor]
    for pid in family:  # grows as it's walked
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                family += map(int, children.read_text().split())
    return family


def _peak(pid: int) -> int:
    """The most resident memory that a process ever had, in bytes; 0 where it's gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def succeed(process: "subprocess.Popen[str]") -> None:
    """End the bench where a command failed, with the last lines of what it said."""
    if process.returncode:
        said = (BUILD / "stderr.log").read_text()[-2000:]
        raise SystemExit(f"{process.args} ended with {process.returncode}:\n{said}")


def read_json(command: list[str]) -> Any:
    """What a command prints, read as JSON (its last line)."""
    console.print(f"  {Path(command[1]).name} {Path(command[2]).name}", style="dim")
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def remove(*paths: Path) -> None:
    """Remove files and folders, where they are there."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
