"""``make mutants``: plausible mistakes in hw1's code, and whether the tests notice each of them.

A mutant is an entry of a TOML file in this folder, one file a kind: ``name``, ``file``, the exact
text ``old``, which stands in the file once, what takes its place, ``new``, and the ``tests`` that
should fail then (else the file's own). It is put into a copy of the tree, and the tests run there
in a process of their own, forked from one that has imported torch already.

    python tests/mutants/run.py [WORD …]       only mutants whose kind or name holds a word

Exits with 1 where fewer than 90 % are caught, one no longer applies, or the tests fail without any.
"""

import contextlib
import importlib
import os
import re
import shutil
import signal
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
GOAL = 0.9
SECONDS = 120
"""That the tests of a mutant may take; one that hangs them is caught."""
ALL_SECONDS = 1200
_COLLECTED = 2
"""pytest's exit code where a test module couldn't be imported; those above are its own trouble."""

_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info", "bench")


@dataclass(frozen=True)
class Mutant:
    kind: str
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """The file's text with the mistake. Raises ValueError where ``old`` isn't there once."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} has its text {text.count(self.old)} times")
        return text.replace(self.old, self.new)


def read_mutants() -> list[Mutant]:
    found = []
    for path in sorted(FOLDER.glob("*.toml")):
        content = tomllib.loads(path.read_text())
        for entry in content["mutant"]:
            tests = entry.get("tests", content["tests"])
            texts = (entry[key] for key in ("name", "file", "old", "new"))
            found.append(Mutant(path.stem, *texts, tuple(tests)))
    return found


def run_tests(tree: Path, tests: Sequence[str], log: Path, seconds: float) -> bool:
    """Whether the tests of a copy of the tree pass, in time. Raises where they can't be run."""
    process = os.fork()
    if not process:
        _be_pytest(tree, tests, log)
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                if code > _COLLECTED:
                    raise RuntimeError(f"pytest ended with {code}: {log.read_text()}")
                return code == 0
            time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return False


def _be_pytest(tree: Path, tests: Sequence[str], log: Path) -> None:
    code = _COLLECTED + 1
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(tree)
        package = str(tree.parent)
        os.environ.update(PYTHONPATH=package, PYTHONDONTWRITEBYTECODE="1")
        sys.path.insert(0, package)
        sys.dont_write_bytecode = True
        pytest = importlib.import_module("pytest")
        words = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not ray", f"--rootdir={tree}"]
        code = int(pytest.main([*words, *tests]))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _import_what_is_slow() -> None:
    """Not hw1, which is another in each process, and nothing that starts threads."""
    for name in ("click", "msgspec", "numpy", "PIL.Image", "rich", "safetensors", "torch"):
        importlib.import_module(name)


def main(words: Sequence[str]) -> int:
    mutants = [m for m in read_mutants() if not words or any(w in m.kind + m.name for w in words)]
    _import_what_is_slow()

    with TemporaryDirectory(prefix="hw1-mutants-") as place:
        tree, log = Path(place) / "hw1", Path(place) / "log"
        shutil.copytree(ROOT, tree, ignore=_LEFT_OUT, symlinks=True)
        if not run_tests(tree, sorted({t for m in mutants for t in m.tests}), log, ALL_SECONDS):
            print(f"the tests fail without any mutant:\n{log.read_text()}")
            return 1
        caught = defaultdict[str, list[bool]](list)
        bad = 0
        for mutant in mutants:
            path = tree / mutant.file
            text = path.read_text()
            try:
                path.write_text(mutant.applied(text))
            except ValueError as error:
                print(f"no longer applies  {error}", flush=True)
                bad += 1
                continue
            began = time.monotonic()
            lives = run_tests(tree, mutant.tests, log, SECONDS)
            path.write_text(text)
            caught[mutant.kind].append(not lives)
            seconds = time.monotonic() - began
            test = re.search(r"^FAILED (\S+)|^ERROR (\S+)", log.read_text(), re.MULTILINE)
            by = "" if lives or test is None else f"  by {test[1] or test[2]}"
            state = "LIVES " if lives else "caught"
            print(f"{state} {seconds:5.1f} s  {mutant.kind}: {mutant.name}{by}", flush=True)
    print(f"\n{'kind':<16}{'mutants':>8}{'caught':>8}")
    every = [hit for hits in caught.values() for hit in hits]
    for kind, hits in [*caught.items(), ("all", every)]:
        print(f"{kind:<16}{len(hits):>8}{sum(hits):>8}")
    return int(bool(bad) or sum(every) < GOAL * len(every))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
