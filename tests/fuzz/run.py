"""``make fuzz``: damaged files for what reads them, led by which lines of hw1 they reach.

A case is a file of the corpus with some of its bytes changed, cut, doubled or joined to another's;
one that reaches a line of hw1 that none reached before joins the corpus. A target returns, or
raises what a user's mistake raises; all else is a finding, and its bytes are kept. All draws
come from the seed; which files join the corpus depends on the lines that are reached. (Not
atheris: one more package; and the few hundred cases of ``make test`` should hardly vary.)

    python tests/fuzz/run.py [CASES [SEED [WORD …]]]    only targets whose names hold a word
"""

import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # for fuzz.targets

ROOT = Path(__file__).parents[2]
_SPLICE = 64
_NUMBERS = (b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff" * 4, b"\x80\0\0\0", b"\xff" * 8, b"-1")
_WORDS = (b"\r", b"\n", b"\0\n", b'"', b",", b"{", b"[" * 3000, b"1e999", b"null", b"NaN", b"\xc3")


@dataclass(frozen=True)
class Target:
    """What reads a file; ``allowed`` is what it may raise, ``names`` those that it may have."""

    name: str
    read: Callable[[Path], object]
    allowed: tuple[type[Exception], ...]
    corpus: Sequence[bytes]
    suffix: str = ""


@dataclass
class Finding:
    target: str
    data: bytes
    error: BaseException


@dataclass
class Reached:
    """The lines of hw1 that were reached."""

    lines: set[tuple[CodeType, int]] = field(default_factory=set)

    @contextmanager
    def watched(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(before)

    def _call(self, frame: FrameType, event: str, _: object) -> Any:
        path = frame.f_code.co_filename
        ours = "/hw1/" in path or path.startswith(str(ROOT))
        return self._line if ours and "/tests/" not in path and "/.venv/" not in path else None

    def _line(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            self.lines.add((frame.f_code, frame.f_lineno))
        return self._line


def mutated(dice: random.Random, corpus: Sequence[bytes]) -> bytes:
    """A file of the corpus, changed in one to four places."""
    data = bytearray(dice.choice(corpus))
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) + 1)
        # Headers decide most.
        at = min(at, dice.randrange(256)) if dice.random() < 0.5 else at
        length = dice.randint(1, _SPLICE)
        kind = dice.randrange(7)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << dice.randrange(8)
        elif kind == 1:
            data[at : at + dice.choice((0, 1, 2, 4, 8))] = dice.choice(_NUMBERS + _WORDS)
        elif kind == 2:
            data[at : at + length] = b""
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind == 4:
            data[at : at + length] = dice.randbytes(length)
        elif kind == 5:
            del data[at:]
        else:
            other = dice.choice(corpus)
            start = dice.randrange(len(other) + 1)
            data[at : at + length] = other[start : start + length]
    return bytes(data)


def fuzz(target: Target, cases: int, seed: int, folder: Path) -> list[Finding]:
    """Try so many cases; the first of each kind of finding, by where it was raised."""
    dice = random.Random(f"{seed} {target.name}")
    reached = Reached()
    corpus = list(target.corpus)
    found: dict[object, Finding] = {}
    for number in range(cases + len(corpus)):
        data = corpus[number] if number < len(target.corpus) else mutated(dice, corpus)
        path = folder / f"case{target.suffix}"
        path.write_bytes(data)
        before = len(reached.lines)
        try:
            with reached.watched():
                target.read(path)
        except target.allowed:
            pass
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            traceback = error.__traceback__
            while traceback is not None and traceback.tb_next is not None:
                traceback = traceback.tb_next
            where = traceback and (traceback.tb_frame.f_code, traceback.tb_lineno)
            found.setdefault((type(error), where), Finding(target.name, data, error))
        if len(reached.lines) > before and number >= len(target.corpus):
            corpus.append(data)
    return list(found.values())


def main(words: Sequence[str]) -> int:
    from fuzz.targets import targets

    cases, seed = (int(word) for word in (*words[:2], *("20000", "0")[len(words) :]))
    chosen = [t for t in targets() if len(words) < 3 or any(w in t.name for w in words[2:])]
    each = -(-cases // len(chosen))
    bad = 0
    with TemporaryDirectory(prefix="hw1-fuzz-") as place:
        for target in chosen:
            began = time.monotonic()
            findings = fuzz(target, each, seed, Path(place))
            seconds = time.monotonic() - began
            print(f"{target.name:<14}{each:>7} cases{seconds:>7.0f} s{len(findings):>4} findings")
            for number, finding in enumerate(findings):
                kept = Path(f"finding-{target.name}-{number}{target.suffix}")
                kept.write_bytes(finding.data)
                print(f"  {kept}: {type(finding.error).__name__}: {str(finding.error)[:150]}")
            sys.stdout.flush()
            bad += len(findings)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
