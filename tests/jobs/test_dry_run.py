"""What a job would do."""

from pathlib import Path

import pytest

from fakes import FakeClassifyJob, write_grey
from hw1.jobs.dry_run import dry_run
from tiny_jobs import run, spec_of


def test_a_dry_run_says_what_it_would_be_refused_for(images: Path) -> None:
    def problems(**changes: object) -> tuple[str, ...]:
        return dry_run(FakeClassifyJob.of(spec_of(images, **changes))).problems

    scores = images.parent / "mine.parquet"
    scores.write_bytes(b"mine")
    run(spec_of(images))
    assert problems() == ()
    assert "top_k 1, now 3" in problems(top_k=3)[0]
    assert problems(top_k=3, overwrite=True) == ()
    assert "mine.parquet exists" in problems(scores=scores, overwrite=True)[0]


def test_a_dry_run_divides_the_cores_among_the_actors(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hw1.execution.inline.cores", lambda: 8)
    for actors, threads in ((None, 8), (3, 2), (9, 1)):
        job = FakeClassifyJob.of(spec_of(images, engine="ray", actors=actors))
        assert dry_run(job).threads == threads


def test_a_dry_run_says_what_changed_as_the_run_does(images: Path) -> None:
    run(spec_of(images))
    (images / "03.png").unlink()
    write_grey(images / "zz.png", 1)
    said = dry_run(FakeClassifyJob.of(spec_of(images)))
    assert (said.new, said.changed, said.gone) == (1, 0, 1)
    assert said.since == "1 new (zz.png), 1 gone (03.png)"
