"""A small job in a folder of its own, run as its command is, disturbed, and compared at the end."""

import contextlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import uuid4

import numpy as np
from PIL import Image

from hw1.core.classes import Classes
from hw1.core.preprocessing import Preprocessing

Task = Literal["classify", "segment"]
Act = Callable[[], None]

MARK = "HW1_CHAOS"
"""The variable by which a job's processes are found, Ray's too."""

PETS = Classes(("cat", "dog", "fox"))
LAND = Classes(("no", "roof", "road"), ((0, 0, 0), (200, 10, 10), (9, 9, 99)), unlabelled=0)


class Skipped(Exception):
    """The machine doesn't allow this fault."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, a signal's negative, and what it wrote to stderr."""

    code: int
    errors: str

    @property
    def is_clean(self) -> bool:
        """Whether no traceback, and no line of Ray's C++, reached the person."""
        return "Traceback" not in self.errors and not re.search(r"\.(cc|h):\d+", self.errors)


def make_models(folder: Path) -> dict[Task, Path]:
    """A small checkpoint of each task."""
    from networks import save_network

    folder.mkdir(parents=True, exist_ok=True)
    small = Preprocessing(size=(24, 32), resize=32, interpolation="bicubic")
    word = "torchvision:lraspp_mobilenet_v3_large"
    return {
        "classify": save_network(folder / "a.safetensors", "timm:test_efficientnet", small, PETS),
        "segment": save_network(
            folder / "b.safetensors", word, Preprocessing(size=None, resize=64), LAND
        ),
    }


def write_photos(folder: Path, count: int, seed: int = 0) -> None:
    """PNGs and JPEGs of noise, some in a folder of their own."""
    random = np.random.default_rng(seed)
    for index in range(count):
        suffix = ".jpg" if index % 3 == 0 else ".png"
        path = folder / ("sub" if index % 4 == 0 else ".") / f"{index:04}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        level = random.integers(0, 200)
        pixels = random.integers(level, level + 56, (40 + index % 7, 50, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)


@dataclass
class World:
    """One job: IN, its output, and its command. ``more`` are words that all its runs have.

    ``note`` is what the table says of it at the end.
    """

    folder: Path
    task: Task
    model: Path
    engine: Literal["inline", "ray"] = "inline"
    count: int = 20
    more: tuple[str, ...] = ()
    mark: str = field(default_factory=lambda: uuid4().hex)
    note: str = ""

    def __post_init__(self) -> None:
        self.images.mkdir(parents=True)
        write_photos(self.images, self.count)

    @property
    def images(self) -> Path:
        """IN."""
        return self.folder / "in"

    @property
    def out(self) -> Path:
        """Where the results are; a folder of its own, so that it can be a file system's."""
        return self.folder / "out"

    @property
    def job(self) -> Path:
        """The job folder."""
        inside = {"classify": "labels.csv.job", "segment": "masks/.job"}
        return self.out / inside[self.task]

    @property
    def ledger(self) -> Path:
        """The list of committed shards."""
        return self.job / "ledger.jsonl"

    def command(self, out: Path | None = None, engine: str | None = None) -> list[str]:
        """The words of ``hw1``."""
        out = out or self.out
        out.mkdir(exist_ok=True)
        name = "labels.csv" if self.task == "classify" else "masks"
        words = ["batch", self.task, str(self.images), str(out / name), "--model", str(self.model)]
        words += ["--engine", engine or self.engine, "--device", "cpu", "--precision", "fp32"]
        words += ["--threads", "1", "--shard-size", "4"]
        if self.task == "classify":
            words += ["--batch-size", "2", "--scores", str(out / "scores.parquet"), "--top-k", "2"]
        return [*words, *self.more]

    def run(self, *words: str, before: Act | None = None, during: Act | None = None) -> Ended:
        """Run the job in a process of its own.

        ``before`` is called in it, first; ``during`` here, while it runs.
        """
        return self.end(self.begin(*words, before=before), during)

    def begin(
        self, *words: str, before: Act | None = None, command: list[str] | None = None
    ) -> int:
        """Start it; returns the process."""
        line = command or [*self.command(), *words]
        sys.stdout.flush()
        child = os.fork()
        if child:
            return child
        code = 70
        try:
            os.setsid()
            os.environ[MARK] = self.mark
            streams = os.open(self.folder / "errors", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(streams, 1)
            os.dup2(streams, 2)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            code = _hw1(line, before)
        finally:
            os._exit(code)

    def end(self, child: int, during: Act | None = None) -> Ended:
        """Wait for a process that was begun."""
        if during is not None:
            during()
        _, status = os.waitpid(child, 0)
        return Ended(
            os.waitstatus_to_exitcode(status),
            (self.folder / "errors").read_text(errors="replace"),
        )

    def until(self, shards: int = 1, seconds: float = 120) -> None:
        """Wait until so many shards are committed."""
        last = time.monotonic() + seconds
        while time.monotonic() < last:
            with contextlib.suppress(OSError):
                if self.ledger.read_bytes().count(b"\n") >= shards:
                    return
            time.sleep(0.002)
        raise AssertionError(f"{shards} shards were not committed in {seconds:.0f} s")

    def finish(self, *words: str, code: int = 0) -> None:
        """Give the same command until nothing is left, as a person would; then verify it."""
        for _ in range(4):
            ended = self.run(*words)
            if ended.code in (0, 3):
                break
        assert ended.code == code, f"exit {ended.code}, not {code}: {ended.errors[-300:]}"
        self.verify()

    def verify(self) -> None:
        """``hw1 jobs verify``."""
        words = self.command()[3]
        checked = self.end(self.begin(command=["jobs", "verify", words]))
        assert checked.code == 0, f"verify: {checked.errors[-300:]}"

    def results(self, out: Path | None = None) -> dict[str, bytes]:
        """All that the job wrote for a person."""
        out = out or self.out
        files = (p for p in out.rglob("*") if p.is_file() and not any(_ours(n) for n in p.parts))
        return {str(path.relative_to(out)): path.read_bytes() for path in files}

    def fresh(self) -> dict[str, bytes]:
        """What an undisturbed job makes of IN as it is now, in one process."""
        out = self.folder / f"fresh-{uuid4().hex}"
        ended = self.end(self.begin(command=self.command(out, "inline")))
        assert ended.code in (0, 3), ended.errors
        made = self.results(out)
        shutil.rmtree(out)
        return made

    def processes(self, *names: str) -> list[int]:
        """The job's processes whose command line holds one of the names; all, without names."""
        found = []
        mark = f"{MARK}={self.mark}\0".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (
                    (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                if mark in (folder / "environ").read_bytes() and (
                    not names or any(name in words for name in names)
                ):
                    found.append(int(folder.name))
        return found

    def kill(self, *names: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to those processes; returns how many there were."""
        found = self.processes(*names)
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        return len(found)

    def leftovers(self) -> list[int]:
        """Processes that still live some seconds after the job."""
        last = time.monotonic() + 20
        while (found := self.processes()) and time.monotonic() < last:
            time.sleep(0.1)
        return found


def _ours(name: str) -> bool:
    return name.endswith(".job")


def _hw1(words: list[str], before: Act | None) -> int:
    """The command in this process."""
    from hw1.cli import main

    try:
        if before is not None:
            before()
        main(words)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own at the folder, in memory. Raises Skipped where not root."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() or os.system(f"mount -t tmpfs -o {options} chaos '{folder}' 2>/dev/null"):
        raise Skipped("needs root, to mount a file system")
    try:
        yield folder
    finally:
        os.system(f"umount -l '{folder}' 2>/dev/null")
