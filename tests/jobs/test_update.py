"""A folder that changed after it was scored: said, and scored on by --update."""

import multiprocessing
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disk_steps import at_each_step

from fakes import label_of, write_grey
from hw1.core.errors import InputError, Refused
from hw1.core.records import Decoded
from hw1.jobs.inspect import verify, view
from hw1.jobs.job import Summary
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

Task = Callable[..., Summary]


def change(images: Path) -> None:
    """Three new images, one of them last, two changed, two gone."""
    write_grey(images / "04a.png", 45)
    write_grey(images / "11.jpeg.png", 201)
    write_grey(images / "zz.png", 77)
    write_grey(images / "03.png", 200, (5, 5))
    write_grey(images / "19.png", 3, (5, 5))
    (images / "00.png").unlink()
    (images / "12.png").unlink()


def fresh(images: Path, task: Task, **words: Any) -> bytes | dict[str, bytes]:
    """What a job that never saw the folder before writes."""
    if task is run:
        again = run(spec_of(images, output=images.parent / "fresh.csv", overwrite=True, **words))
        return again.output.read_bytes()
    again = segment(masks_of(images, output=images.parent / "fresh", overwrite=True, **words))
    return masks_in(again.output)


def masks_in(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*.png") if ".job" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def result(summary: Summary) -> bytes | dict[str, bytes]:
    return summary.output.read_bytes() if summary.task == "classify" else masks_in(summary.output)


def asked(images: Path, task: Task, **words: Any) -> Any:
    return spec_of(images, **words) if task is run else masks_of(images, **words)


@pytest.mark.parametrize("task", [run, segment])
def test_what_is_new_changed_or_gone_is_said_and_nothing_done(
    images: Path, task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    before = result(task(asked(images, task)))
    assert task(asked(images, task)).exit_code(rejected_ok=False) == 0
    change(images)
    summary = task(asked(images, task), never)
    assert (summary.new, summary.changed, summary.gone) == (3, 2, 2)
    assert summary.exit_code(rejected_ok=True) == 3
    assert result(summary) == before
    assert "3 new (04a.png, 11.jpeg.png, zz.png), 2 changed (03.png, 19.png), 2 gone" in caplog.text


@pytest.mark.parametrize("words", [{"update": True}, {"retry_rejected": True}])
def test_an_update_discards_nothing(images: Path, words: dict[str, bool]) -> None:
    run(spec_of(images))
    with pytest.raises(InputError, match=r"--overwrite discards the earlier job.*give one of them"):
        run(spec_of(images, overwrite=True, **words))


def never(decoded: Decoded) -> None:
    raise AssertionError("nothing is left to predict")


@pytest.mark.parametrize("task", [run, segment])
def test_an_update_is_as_a_fresh_run_and_scores_what_is_new_alone(images: Path, task: Task) -> None:
    task(asked(images, task))
    change(images)
    seen: list[str] = []
    summary = task(asked(images, task, update=True), lambda d: seen.extend(d.image_ids))
    assert seen == ["03.png", "04a.png", "11.jpeg.png", "19.png", "zz.png"]
    assert summary.exit_code(rejected_ok=False) == 0
    assert summary.planned == summary.scored == COUNT + 1
    assert summary.resumed == COUNT - 4
    assert result(summary) == fresh(images, task)
    assert verify(summary.job) == []
    again = task(asked(images, task), never)
    assert (again.resumed, again.exit_code(rejected_ok=False)) == (COUNT + 1, 0)
    assert (view(summary.job).planned, view(summary.job).done) == (COUNT + 1, COUNT + 1)


@pytest.mark.parametrize("task", [run, segment])
def test_updates_follow_each_other(images: Path, task: Task) -> None:
    task(asked(images, task))
    for step in range(3):
        write_grey(images / f"new{step}.png", 60 * step)
        write_grey(images / "05.png", 70 * step, (step + 1, 4))
        (images / f"0{step}.png").unlink()
        if step:
            (images / f"new{step - 1}.png").unlink()
        summary = task(asked(images, task, update=True))
        assert result(summary) == fresh(images, task)
        assert verify(summary.job) == []
    assert task(asked(images, task), never).exit_code(rejected_ok=False) == 0


def test_an_update_sorts_names_by_their_bytes(images: Path) -> None:
    for name in ("b.png", "Z.png", os.fsdecode(b"x\xff.png")):
        write_grey(images / name, 10)
    run(spec_of(images))
    for name in ("A.png", "a.png", "c.png", "é.png", os.fsdecode(b"x\xfe.png")):
        write_grey(images / name, 90)
    assert result(run(spec_of(images, update=True))) == fresh(images, run)


def test_gone_rows_are_kept_where_asked_for(images: Path) -> None:
    run(spec_of(images))
    (images / "07.png").unlink()
    write_grey(images / "zz.png", 77)
    summary = run(spec_of(images, update=True, keep_gone=True))
    assert rows_of(summary.output) == [*expected(), ["zz.png", str(label_of(77))]]
    assert summary.exit_code(rejected_ok=False) == 0
    assert run(spec_of(images), never).exit_code(rejected_ok=False) == 3
    assert run(spec_of(images, keep_gone=True), never).exit_code(rejected_ok=False) == 0


def test_the_rejected_are_tried_again_where_asked_for(images: Path) -> None:
    def locked() -> None:
        (images / "05.png").rename(images / ".05.png")

    summary = run(spec_of(images), at_position(0, locked))
    assert summary.reasons == {"gone": 1}
    (images / ".05.png").rename(images / "05.png")
    assert run(spec_of(images, update=True), never).rejected == 1
    seen: list[str] = []
    spec = spec_of(images, retry_rejected=True, max_rejected="0")
    again = run(spec, lambda d: seen.extend(d.image_ids))
    assert seen == ["05.png"]
    assert again.rejected == 0
    assert rows_of(again.output) == expected()
    assert verify(again.job) == []


def test_an_image_that_became_bad_loses_its_mask(images: Path) -> None:
    segment(masks_of(images))
    (images / "03.png").write_bytes(b"no image")
    summary = segment(masks_of(images, update=True))
    assert summary.reasons == {"not_image": 1}
    assert not (images.parent / "masks" / "03.png").exists()
    assert verify(summary.job) == []


def test_a_mask_that_someone_changed_is_not_removed_with_its_image(images: Path) -> None:
    segment(masks_of(images))
    (images / "03.png").unlink()
    mine = images.parent / "masks" / "03.png"
    write_grey(images / "zz.png", 9)
    with pytest.raises(KeyboardInterrupt):
        segment(masks_of(images, update=True), at_position(0, interrupt))
    mine.write_bytes(b"mine")
    segment(masks_of(images))
    assert mine.read_bytes() == b"mine"


def test_a_missing_or_empty_folder_is_no_folder_without_images(images: Path) -> None:
    run(spec_of(images))
    before = (images.parent / "out.csv").read_bytes()
    images.rename(images.with_name("elsewhere"))
    for _ in range(2):
        with pytest.raises(InputError):
            run(spec_of(images, update=True))
        assert run(spec_of(images), never).exit_code(rejected_ok=True) == 3
        images.mkdir(exist_ok=True)
    write_grey(images / "other.png", 1)
    assert (images.parent / "out.csv").read_bytes() == before


def test_a_new_image_must_not_take_a_name(images: Path) -> None:
    segment(masks_of(images))
    write_grey(images / "03.jpg", 1)
    with pytest.raises(InputError, match="--keep-suffix"):
        segment(masks_of(images, update=True))
    (images / "03.png").unlink()
    assert segment(masks_of(images, update=True)).scored == COUNT
    assert (images.parent / "masks" / "03.png").exists()
    write_grey(images / "zz.png", 1)
    write_grey(images.parent / "masks" / "zz.png", 1)
    with pytest.raises(Refused, match=r"zz\.png exists"):
        segment(masks_of(images, update=True))


@pytest.mark.parametrize("task", [run, segment])
def test_a_damaged_part_of_an_earlier_generation_is_done_again(images: Path, task: Task) -> None:
    task(asked(images, task))
    change(images)
    before = result(summary := task(asked(images, task, update=True)))
    for number in (0, 4, 6):
        (summary.job / "parts" / f"{number:07d}.csv").write_bytes(b"")
        assert result(task(asked(images, task))) == before
        assert verify(summary.job) == []


def test_scores_of_several_generations_stand_beside_their_rows(images: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    run(spec_of(images, scores=images.parent / "scores.parquet"))
    change(images)
    run(spec_of(images, scores=images.parent / "scores.parquet", update=True))
    fresh(images, run, scores=images.parent / "fresh.parquet")
    tables = [parquet.read_table(images.parent / f"{n}.parquet") for n in ("scores", "fresh")]
    assert tables[0].equals(tables[1])


def test_overwrite_after_updates_removes_all_masks_and_nothing_else(images: Path) -> None:
    segment(masks_of(images))
    change(images)
    segment(masks_of(images, update=True))
    write_grey(images.parent / "masks" / "12.png", 1)  # by hand
    shutil.rmtree(images)
    write_grey(images / "one.png", 3)
    segment(masks_of(images, overwrite=True))
    assert set(masks_in(images.parent / "masks")) == {"one.png", "12.png"}


def run_until(work: Callable[[], object], stop: int) -> None:
    """Run what a test asks for; end the process, as a kill does, at a step on the disk."""

    def act(step: int) -> None:
        if step == stop:
            os._exit(9)

    at_each_step(act)
    work()
    os._exit(0)


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Whether the work, in a process of its own, was killed at that step."""
    process = multiprocessing.get_context("fork").Process(target=run_until, args=(work, step))
    process.start()
    process.join()
    return process.exitcode == 9


@pytest.mark.parametrize("task", [run, segment])
def test_an_update_that_is_killed_goes_on(images: Path, task: Task) -> None:
    task(asked(images, task))
    change(images)
    wanted = fresh(images, task)
    saved = images.parent / "saved"
    shutil.copytree(images.parent, saved, ignore=shutil.ignore_patterns("in", "fresh*"))
    kills, chance, seen = 0, random.Random(7), list[str]()
    for step in sorted(chance.sample(range(1, 100), 10)):
        for path in saved.iterdir():
            place = images.parent / path.name
            if path.is_dir():
                shutil.rmtree(place)
                shutil.copytree(path, place)
            else:
                shutil.copy(path, place)
        kills += killed_at(step, lambda: task(asked(images, task, update=True)))
        seen.clear()
        summary = task(asked(images, task, update=True), lambda d: seen.extend(d.image_ids))
        assert result(summary) == wanted, step
        assert set(seen) <= {"03.png", "04a.png", "11.jpeg.png", "19.png", "zz.png"}
        assert summary.exit_code(rejected_ok=False) == 0
        assert verify(summary.job) == []
    assert kills >= 3
