"""The durable job, through its result: kills, damage, full disks, conservation."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from fakes import write_grey
from hw1.core.errors import EnvironmentFault, InputError, TooManyRejected
from hw1.core.records import Decoded, Rejection
from hw1.execution.engines import Engine, EngineOptions, start
from hw1.jobs.folder import JobFolder
from hw1.jobs.inspect import verify, view
from hw1.jobs.job import Summary
from hw1.pipeline.parts import read_rejections
from tiny_jobs import (
    COUNT,
    at_position,
    expected,
    interrupt,
    masks_of,
    rows_of,
    run,
    segment,
    spec_of,
)


def test_an_interrupted_job_resumes_with_what_is_left(images: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    output = images.parent / "out.csv"
    assert not output.exists()
    assert view(output.with_name("out.csv.job")).state == "interrupted"
    seen: list[int] = []
    summary = run(spec_of(images), lambda decoded: seen.append(decoded.piece.first))
    assert seen == [8, 12, 16, 20]
    assert summary.resumed == 8
    assert rows_of(output) == expected()


def test_a_resume_uses_the_frozen_plan(images: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    write_grey(images / "00a.png", 30)
    summary = run(spec_of(images))
    assert summary.planned == COUNT
    assert rows_of(images.parent / "out.csv") == expected()


@pytest.mark.parametrize("damage", [b"", b"00.png,9\n"])
def test_a_damaged_part_is_done_again(images: Path, damage: bytes) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    part = images.parent / "out.csv.job" / "parts" / "0000000.csv"
    part.write_bytes(damage)
    run(spec_of(images))
    assert rows_of(images.parent / "out.csv") == expected()


def test_the_same_command_again_does_nothing_and_restores_a_lost_result(images: Path) -> None:
    run(spec_of(images))
    output = images.parent / "out.csv"
    before = output.read_bytes()
    output.unlink()

    def never(decoded: Decoded) -> None:
        raise AssertionError("nothing is left to predict")

    assert run(spec_of(images), never).resumed == COUNT
    assert output.read_bytes() == before


def test_the_job_is_held_until_the_engine_has_stopped(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = JobFolder(images.parent / "out.csv.job")
    held: list[bool] = []

    @contextmanager
    def watched(options: EngineOptions) -> Iterator[Engine]:
        with start(options) as engine:
            try:
                yield engine
            finally:  # here Ray's processes may still write
                held.append(folder.is_running())

    monkeypatch.setattr("hw1.jobs.run.start", watched)
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    run(spec_of(images))
    assert held == [True, True]


def test_overwrite_begins_again(images: Path) -> None:
    run(spec_of(images))
    summary = run(spec_of(images, top_k=2, overwrite=True))
    assert summary.resumed == 0
    assert rows_of(images.parent / "out.csv")[0] == ["image_id", "label", "label_2"]


def test_bad_images_are_rejected_with_their_reason_and_the_rest_scored(images: Path) -> None:
    (images / "05.png").write_bytes(b"")
    (images / "06.png").write_bytes(b"not an image at all")
    (images / "07.png").write_bytes((images / "08.png").read_bytes()[:50])
    summary = run(spec_of(images))
    assert summary.planned == summary.scored + summary.rejected == COUNT
    assert summary.reasons == {"empty": 1, "not_image": 1, "truncated": 1}
    assert summary.exit_code(rejected_ok=False) == 3
    assert summary.exit_code(rejected_ok=True) == 0
    bad = {"05.png", "06.png", "07.png"}
    assert rows_of(images.parent / "out.csv") == [r for r in expected() if r[0] not in bad]
    rejected = rows_of(summary.job / "rejected.csv")
    assert [row[:2] for row in rejected[1:]] == [
        ["05.png", "empty"],
        ["06.png", "not_image"],
        ["07.png", "truncated"],
    ]
    assert verify(summary.job) == []


def test_an_image_that_changes_or_goes_after_the_plan_is_rejected(images: Path) -> None:
    def change() -> None:
        (images / "20.png").unlink()
        write_grey(images / "21.png", 3, (20, 20))

    summary = run(spec_of(images), at_position(0, change))
    assert summary.reasons == {"gone": 1, "changed": 1}


@pytest.mark.parametrize("leave_empty", [True, False])
@pytest.mark.parametrize("task", [run, segment])
def test_images_are_not_gone_where_all_of_their_folder_went(
    images: Path, task: Callable[..., Summary], leave_empty: bool
) -> None:
    """Unmounted meanwhile, or not seen by a machine of the cluster."""
    spec = spec_of(images) if task is run else masks_of(images)

    def unmount(decoded: Decoded) -> None:
        if images.exists() and decoded.piece.first == 4:
            images.rename(images.with_name("elsewhere"))
            if leave_empty:
                images.mkdir()

    with pytest.raises(EnvironmentFault, match="is not there, or empty"):
        task(spec, unmount)
    if leave_empty:
        images.rmdir()
    images.with_name("elsewhere").rename(images)
    assert task(spec).scored == COUNT


@pytest.mark.parametrize("limit", ["0", "4%"])
def test_too_many_rejected_stops_the_job_which_resumes(images: Path, limit: str) -> None:
    (images / "00.png").write_bytes(b"")
    with pytest.raises(TooManyRejected, match="--max-rejected"):
        run(spec_of(images, max_rejected=limit))
    assert not (images.parent / "out.csv").exists()
    assert run(spec_of(images, max_rejected="1")).rejected == 1


def test_counting_the_rejected_reads_each_shards_once(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in images.iterdir():
        path.write_bytes(b"")
    read: list[int] = []

    def spy(folder: Path, shard: int) -> Iterator[Rejection]:
        read.append(shard)
        return read_rejections(folder, shard)

    monkeypatch.setattr("hw1.jobs.update.read_rejections", spy)
    assert run(spec_of(images, max_rejected="100%")).rejected == COUNT
    assert len(read) == len(set(read)) > 1


def test_a_full_disk_ends_a_resume_with_a_fault_of_the_machine(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(spec_of(images))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        run(spec_of(images))


def test_a_disk_that_is_full_at_the_start_is_a_fault_of_the_machine(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", full)
        with pytest.raises(EnvironmentFault, match=r"cannot be made.*No space left"):
            run(spec_of(images))
    assert run(spec_of(images)).scored == COUNT


def test_a_fault_of_the_machine_rejects_nobody(images: Path) -> None:
    tries: list[int] = []

    def fault() -> None:
        tries.append(1)
        raise EnvironmentFault("no memory")

    with pytest.raises(EnvironmentFault):
        run(spec_of(images), at_position(9, fault))
    assert len(tries) == 3
    job = images.parent / "out.csv.job"
    assert (view(job).state, view(job).done) == ("failed", 8)
    assert run(spec_of(images)).rejected == 0
    assert rows_of(images.parent / "out.csv") == expected()


def test_nothing_to_do_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError):
        run(spec_of(tmp_path / "in"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_overwrite_begins_again_where_the_plan_is_damaged(images: Path) -> None:
    job = segment(masks_of(images)).job
    (job / "plan.jsonl").write_bytes(b"rubbish")
    with pytest.raises(InputError, match="--overwrite"):
        segment(masks_of(images))
    assert segment(masks_of(images, overwrite=True)).scored == COUNT


def test_overwrite_begins_again_where_a_part_is_damaged(images: Path) -> None:
    (images / "05.png").write_bytes(b"")
    job = segment(masks_of(images)).job
    (job / "parts" / "0000001.rejected.csv").write_bytes(b"rubbish\n")
    assert segment(masks_of(images, overwrite=True)).rejected == 1


def test_a_job_begun_on_the_cpu_goes_on_there(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    asked: list[str] = []

    def started(options: EngineOptions) -> AbstractContextManager[Engine]:
        asked.append(options.device)
        return start(options)

    monkeypatch.setattr("hw1.jobs.run.start", started)
    run(spec_of(images, device="auto"))
    assert asked == ["cpu"]


def test_a_fault_of_the_storage_ends_with_what_to_do(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(spec_of(images))

    def fails(job: Path, shard: int) -> str:
        raise OSError(errno.EIO, "Input/output error", str(job))

    monkeypatch.setattr("hw1.jobs.update.part_digest", fails)
    with pytest.raises(EnvironmentFault, match=r"Input/output error.*same command"):
        run(spec_of(images))


def test_an_interrupt_does_not_wait_for_the_listing(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = threading.Event()

    def slow(*_: object) -> None:
        listing.wait(30)

    monkeypatch.setattr("hw1.jobs.run.find", slow)
    monkeypatch.setattr("hw1.jobs.run.start", lambda options: interrupt())
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images))
    assert time.monotonic() - began < 15
    listing.set()


def test_standard_input_is_read_where_an_interrupt_is_seen(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reading(*_: object) -> None:
        assert threading.current_thread() is threading.main_thread()
        interrupt()

    monkeypatch.setattr("hw1.jobs.run.find", reading)
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images, source="@-"))


@pytest.mark.parametrize("seconds", [3600, -7200])
def test_a_job_goes_on_where_all_times_have_shifted_alike(images: Path, seconds: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    for path in images.iterdir():
        shifted = path.stat().st_mtime_ns + seconds * 10**9
        shifted -= shifted % (2 * 10**9)  # as FAT cuts it
        os.utime(path, ns=(shifted, shifted))
    summary = run(spec_of(images))
    assert (summary.rejected, summary.exit_code(rejected_ok=False)) == (0, 0)
    assert rows_of(summary.output) == expected()
