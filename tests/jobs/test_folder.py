"""The job folder: its lock, and what a kill leaves in it."""

import os
from pathlib import Path
from typing import IO

import pytest

from hw1.core.errors import Refused
from hw1.core.records import Decoded
from hw1.jobs.folder import JobFolder
from hw1.jobs.inspect import view
from tiny_jobs import COUNT, at_position, masks_of, run, segment, spec_of


def test_a_running_job_is_refused_to_a_second(images: Path) -> None:
    refusals: list[str] = []

    def second() -> None:
        with pytest.raises(Refused) as refused:
            run(spec_of(images))
        refusals.append(str(refused.value))
        assert view(images.parent / "out.csv.job").state == "running"

    run(spec_of(images), at_position(0, second))
    assert str(os.getpid()) in refusals[0]


def test_what_a_kill_left_half_written_lies_in_the_job_folder_and_is_swept(images: Path) -> None:
    job = images.parent / "masks" / ".job"

    def look(decoded: Decoded) -> None:
        if decoded.piece.first == 8:
            for folder in (job, job / "parts"):
                (folder / ".0123.tmp").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment(masks_of(images), look)
    segment(masks_of(images))
    assert list(images.parent.rglob("*.tmp")) == []


def test_a_lock_whose_folder_was_removed_is_not_held(images: Path) -> None:
    """Another process may remove the folder of a job that never began while we wait for it."""
    folder = JobFolder(images.parent / "out.csv.job")

    def removed(file: IO[str]) -> bool:
        folder.remove()
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hw1.jobs.folder._try_lock", removed)
        with pytest.raises(Refused), folder.lock():
            pass
    assert run(spec_of(images)).scored == COUNT
