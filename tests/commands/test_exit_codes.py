"""The exit code of each end that a command can come to."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fakes import FakeClassifyJob, write_grey
from hw1.cli import main
from hw1.core.errors import EnvironmentFault, InputError, Refused, TooManyRejected
from hw1.core.records import Decoded
from hw1.execution import inline
from hw1.jobs.classify import ClassifyJob


def act(decoded: Decoded) -> None:
    for error in acts:
        raise error


acts: list[BaseException] = []


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Labels by brightness, and what is in ``acts`` happens before them."""
    monkeypatch.setattr(ClassifyJob, "open", lambda spec: FakeClassifyJob.of(spec, act))
    monkeypatch.setattr(inline, "PAUSES", ())
    acts.clear()
    yield
    acts.clear()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for index in range(3):
        write_grey(tmp_path / "in" / f"{index}.png", 60 * index)
    return tmp_path / "in"


def classify(images: Path, *options: str) -> Result:
    words = ["batch", "classify", images, images.parent / "out.csv", "--engine", "inline"]
    return CliRunner().invoke(main, [*map(str, words), "--device", "cpu", *options])


def test_all_scored(images: Path) -> None:
    assert classify(images).exit_code == 0


def test_files_that_are_no_images_are_said_by_their_suffix(images: Path) -> None:
    for name in ("a.txt", "b.TXT", "README", "c.md"):
        (images / name).write_text("words")
    for _ in range(2):  # when it is done, and when nothing is left to do
        assert "ignored 4 files: .txt 2, no suffix 1, .md 1" in classify(images).stdout
    told = json.loads(classify(images, "--exclude", "0*", "--overwrite", "--json").stdout)
    assert told["ignored"] == 5
    assert told["ignored_formats"] == {".txt": 2, "": 1, ".md": 1, ".png": 1}


def test_some_rejected(images: Path) -> None:
    (images / "1.png").write_bytes(b"")
    assert classify(images).exit_code == 3
    assert classify(images, "--rejected-ok").exit_code == 0


def test_more_rejected_than_allowed(images: Path) -> None:
    for index in (1, 2):
        (images / f"{index}.png").write_bytes(b"")
    done = classify(images, "--max-rejected", "1")
    assert done.exit_code == 4
    assert "--max-rejected 1 allows 1" in done.stderr
    assert classify(images, "--max-rejected", "2").exit_code == 3


def test_wrong_usage(images: Path) -> None:
    assert classify(images.parent / "none").exit_code == 2
    assert classify(images, "--shard-size", "0").exit_code == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EnvironmentFault("no memory left"), 4),
        (MemoryError(), 4),
        (OSError(errno.ENOSPC, "No space left on device"), 4),
        (InputError("bad weights"), 2),
        (TooManyRejected("all"), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_job_that_stops_says_why_and_resumes(
    images: Path, error: BaseException, code: int
) -> None:
    acts.append(error)
    done = classify(images)
    assert done.exit_code == code
    assert done.stderr.startswith("hw1: ")
    assert "Traceback" not in done.output
    acts.clear()
    assert classify(images).exit_code == 0


def test_an_output_that_belongs_to_another_job(images: Path) -> None:
    assert classify(images).exit_code == 0
    done = classify(images, "--top-k", "2")
    assert done.exit_code == 5
    assert "belongs to another job" in done.stderr
    (images.parent / "out.csv").unlink()
    assert classify(images).exit_code == 0


def test_a_job_that_runs(images: Path) -> None:
    codes: list[int] = []

    def second(decoded: Decoded) -> None:
        if not codes:
            codes.append(-1)
            codes[0] = classify(images).exit_code

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClassifyJob, "open", lambda spec: FakeClassifyJob.of(spec, second))
        assert classify(images).exit_code == 0
    assert codes == [5]


def test_verify(images: Path) -> None:
    classify(images)
    output = images.parent / "out.csv"
    verify = ["jobs", "verify", str(output)]
    assert CliRunner().invoke(main, verify).exit_code == 0
    output.write_bytes(output.read_bytes() + b"x.png,1\n")
    assert CliRunner().invoke(main, verify).exit_code == 1
    assert CliRunner().invoke(main, ["jobs", "verify", str(images)]).exit_code == 2


def test_a_bug_is_not_hidden(images: Path) -> None:
    acts.append(ZeroDivisionError("a bug of ours"))
    done = classify(images)
    assert done.exit_code == 1
    assert isinstance(done.exception, ZeroDivisionError)


def test_errors_are_apart() -> None:
    kinds = {InputError: 2, EnvironmentFault: 4, TooManyRejected: 4, Refused: 5}
    for kind, code in kinds.items():
        assert kind.exit_code == code
        assert not any(issubclass(kind, other) for other in kinds if other is not kind)


def test_an_interrupt_of_any_command(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hw1.jobs.inspect.find_jobs", interrupted)
    done = CliRunner().invoke(main, ["jobs", "list", str(images)])
    assert (done.exit_code, done.stderr) == (130, "hw1: interrupted\n")
