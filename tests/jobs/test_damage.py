"""What a job wrote, damaged since: it is found, made again, and said."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hw1.core.errors import EnvironmentFault, Refused
from hw1.core.records import Decoded
from hw1.jobs.inspect import verify
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

Damage = Callable[[Path], None]


def swap(path: Path) -> None:
    shutil.copy(path.with_name("22.png"), path)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def become_link(path: Path) -> None:
    shutil.move(path, path.parent.parent / "moved.png")
    path.symlink_to(path.parent.parent / "moved.png")


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: list[Damage] = [
    swap,
    flip,
    become_link,
    become_folder,
    Path.unlink,
    lambda path: os.truncate(path, 0),
    lambda path: os.truncate(path, 40),
]


def never(decoded: Decoded) -> None:
    raise AssertionError("nothing is left to predict")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("place", ["masks", "blends"])
def test_a_damaged_mask_or_overlay_is_made_again_and_said(
    images: Path, place: str, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    spec = masks_of(images, overlay=images.parent / "blends")
    segment(spec)
    path = images.parent / place / "03.png"
    before = path.read_bytes()
    damage(path)
    summary = segment(spec)
    assert path.read_bytes() == before
    assert not path.is_symlink()
    assert summary.resumed == COUNT - 4
    said = f"1 masks or overlays were not as written: made again ({path})"
    assert said in caplog.text
    assert verify(summary.job) == []
    assert segment(spec, never).resumed == COUNT


def test_a_damaged_mask_is_made_again_on_resume(images: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        segment(masks_of(images), at_position(13, interrupt))
    mask = images.parent / "masks" / "03.png"
    before = mask.read_bytes()
    flip(mask)
    assert segment(masks_of(images)).resumed == 8
    assert mask.read_bytes() == before


def test_a_link_is_never_written_through(images: Path) -> None:
    segment(masks_of(images))
    mask, mine = images.parent / "masks" / "03.png", images.parent / "mine.txt"
    mine.write_text("mine")
    mask.unlink()
    mask.symlink_to(mine)
    assert verify(images.parent / "masks" / ".job") != []
    segment(masks_of(images))
    assert mine.read_text() == "mine"


def test_a_folder_that_holds_something_is_not_removed(images: Path) -> None:
    segment(masks_of(images))
    mask = images.parent / "masks" / "03.png"
    mask.unlink()
    (mask / "mine").mkdir(parents=True)
    with pytest.raises(Refused, match=r"03\.png: expected a mask, found a folder"):
        segment(masks_of(images))
    assert (mask / "mine").is_dir()


def test_content_is_read_where_times_differ_or_with_check_or_in_old_jobs(images: Path) -> None:
    job = segment(masks_of(images)).job
    mask = images.parent / "masks" / "03.png"
    os.utime(mask, ns=(1, 1))
    assert segment(masks_of(images), never).resumed == COUNT  # its content is the same
    status = mask.stat()
    flip(mask)
    os.utime(mask, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert segment(masks_of(images), never).resumed == COUNT  # which nothing tells, but
    assert segment(masks_of(images, check=True)).resumed == COUNT - 4
    for path in (job / "parts").glob("*.files"):  # as in jobs begun earlier
        path.unlink()
    flip(mask)
    assert segment(masks_of(images)).resumed == COUNT - 4
    assert verify(job) == []


def test_a_damaged_record_of_sizes_and_times_costs_a_look_at_the_content(images: Path) -> None:
    job = segment(masks_of(images)).job
    (job / "parts" / "0000000.files").write_bytes(b"rubbish\n03.png,x\n04.png\n")
    assert segment(masks_of(images), never).resumed == COUNT


@pytest.mark.parametrize("damage", [swap, flip, become_link])
def test_a_damaged_result_is_made_again_and_said(
    images: Path, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    run(spec_of(images))
    output = images.parent / "out.csv"
    before = output.read_bytes()
    shutil.copy(images / "22.png", output.with_name("22.png"))
    damage(output)
    assert run(spec_of(images), never).resumed == COUNT
    assert output.read_bytes() == before
    assert not output.is_symlink()
    assert "out.csv was not as written: made again" in caplog.text
    changed = output.stat().st_mtime_ns
    caplog.clear()
    run(spec_of(images), never)
    assert output.stat().st_mtime_ns == changed  # what is as written is left alone
    assert "made again" not in caplog.text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\0" * 80, None])
def test_half_a_description_is_made_again(
    images: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    description = images.parent / "out.csv.job" / "job.json"
    if content is None:
        description.unlink()
    else:
        description.write_bytes(content)
    summary = run(spec_of(images))
    assert summary.resumed == 8
    assert rows_of(summary.output) == expected()
    assert "job.json was damaged: made again" in caplog.text
    assert verify(summary.job) == []


def damage_all(job: Path) -> None:
    for path in job.iterdir():
        if path.name != "parts":
            path.write_bytes(path.read_bytes()[:20])


def damage_by_folders(job: Path) -> None:
    for name in ("job.json", "begun.json", "ledger.jsonl"):
        (job / name).unlink()
        (job / name / "in").mkdir(parents=True)


@pytest.mark.parametrize("damage", [damage_all, damage_by_folders])
@pytest.mark.parametrize("task", [run, segment])
def test_overwrite_works_over_any_damage_to_the_jobs_own_files(
    images: Path, task: Callable[..., Summary], damage: Damage
) -> None:
    spec = spec_of(images) if task is run else masks_of(images)
    damage(task(spec).job)
    with pytest.raises(EnvironmentFault, match="--overwrite"):
        task(spec)
    summary = task(replace(spec, overwrite=True))
    assert summary.scored == COUNT
    assert verify(summary.job) == []


def test_damaged_names_of_classes_are_made_again(images: Path) -> None:
    """By them `hw1 evaluate` reads the labels."""
    spec = spec_of(images)
    run(spec)
    classes = images.parent / "out.csv.job" / "classes.csv"
    names = classes.read_bytes()
    for damaged in (names[:40], b"", names.replace(b"1,", b"2,", 1)):
        classes.write_bytes(damaged)
        run(spec)
        assert classes.read_bytes() == names
