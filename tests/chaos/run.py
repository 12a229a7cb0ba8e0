"""Disturbs small jobs in every way we know, and prints what became of them.

    make chaos                    all faults, some minutes
    make chaos ARGS='--only Ray'  those whose group, name or task holds the word

A fault is survived where the command ended as promised and the job could be finished; bytes are
equal where its results then are those of a job that nobody disturbed.
"""

import argparse
import importlib
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import damage  # noqa: E402, F401  they enter their faults into the table
import endings  # noqa: E402, F401
import machines  # noqa: E402, F401
import strange  # noqa: E402, F401
from table import FAULTS, Fault  # noqa: E402
from world import Skipped, Task, World, make_models  # noqa: E402


@dataclass(frozen=True)
class Row:
    """What became of a job: ``survived`` and ``equal`` are yes, no, or why it wasn't tried."""

    fault: Fault
    survived: str
    equal: str
    seconds: float
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Whether a promise was broken."""
        return "no" in (self.survived, self.equal)


def disturb(fault: Fault, models: dict[Task, Path], folder: Path, seed: int) -> Row:
    """Try one fault in a folder of its own."""
    since = time.monotonic()
    engine = "ray" if fault.engine == "ray" else "inline"
    place = Path(tempfile.mkdtemp(dir=folder))
    world = World(place / "w", fault.task, models[fault.task], engine, fault.count)
    survived, equal, detail = "yes", "yes", ""
    try:
        fault.inject(world, random.Random(f"{seed} {fault.name}"))
        detail = world.note
    except Skipped as reason:
        survived, equal, detail = "-", "-", str(reason)
    except AssertionError as error:
        detail = " ".join(str(error).split())[-300:] or "the results differ"
        if "results() ==" in _line(error) or "killed at step" in detail:
            equal = "no"
        else:
            survived, equal = "no", "-"
    finally:
        world.kill()
        shutil.rmtree(place, ignore_errors=True)
    return Row(fault, survived, equal, time.monotonic() - since, detail)


def _line(error: BaseException) -> str:
    """The source of the line that raised it."""
    import traceback

    return traceback.extract_tb(error.__traceback__)[-1].line or ""


def _import_what_is_slow() -> None:
    """What a job imports: its processes are forked from this one, once for all."""
    for name in (
        *("pyarrow.parquet", "hw1.commands.batch", "hw1.commands.jobs", "hw1.models._torchvision"),
        *("hw1.commands.report", "hw1.jobs.classify", "hw1.jobs.run", "hw1.jobs.segment"),
        *("hw1.models.libraries", "hw1.models.registry", "hw1.pipeline.blended"),
    ):
        importlib.import_module(name)


def main() -> int:
    """Print a line as each fault is through; exit 1 where one was not survived."""
    import torch

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="the few that the tests try")
    words = parser.parse_args()
    torch.set_num_threads(1)  # these processes fork
    _import_what_is_slow()
    chosen = [f for f in FAULTS if words.only in f"{f.group} {f.name} {f.task}"]
    chosen = [f for f in chosen if f.quick or not words.quick]
    rows = []
    with tempfile.TemporaryDirectory(prefix="hw1-chaos-") as scratch:
        models = make_models(Path(scratch) / "models")
        print(f"{'fault':70} {'job':15} survived  equal  seconds")
        for fault in chosen:
            row = disturb(fault, models, Path(scratch), words.seed)
            name, job = f"{fault.group}: {fault.name}", f"{fault.task}, {fault.engine}"
            print(
                f"{name:70} {job:15} {row.survived:8}  {row.equal:5}  {row.seconds:7.1f}"
                f"{'  ' + row.detail if row.detail else ''}",
                flush=True,
            )
            rows.append(row)
    failed = sum(row.failed for row in rows)
    skipped = sum(row.survived == "-" for row in rows)
    print(f"{len(rows) - failed - skipped} survived, {failed} not, {skipped} not tried")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
