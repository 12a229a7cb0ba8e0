"""The durable job, through its folder and its result: kills, damage, refusals, conservation."""

import csv
import errno
import io
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

import fakes
from fakes import FakeClassifyJob, FakeSegmentJob, Hook, label_of, nothing, write_grey
from hw1.core.durable import write_bytes
from hw1.core.errors import EnvironmentFault, InputError, Refused, TooManyRejected
from hw1.core.numerics import Profile
from hw1.core.preprocessing import Preprocessing
from hw1.core.records import Decoded
from hw1.core.spec import ClassifySpec, SegmentSpec
from hw1.execution import inline
from hw1.execution.engines import Engine, EngineOptions, start
from hw1.jobs.dry_run import dry_run
from hw1.jobs.folder import JobFolder
from hw1.jobs.identity import differences
from hw1.jobs.inspect import find_jobs, job_of, verify, view
from hw1.jobs.job import Summary
from hw1.jobs.profile import asked_differences
from hw1.jobs.progress import Progress
from hw1.jobs.run import run_job

COUNT = 23


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "PAUSES", (0.0, 0.0))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for index in range(COUNT):
        write_grey(folder / f"{index:02d}.png", index * 10)
    return folder


def spec_of(images: Path, **changes: object) -> ClassifySpec:
    made = ClassifySpec(
        source=str(images),
        output=images.parent / "out.csv",
        engine="inline",
        device="cpu",
        batch_size=2,
        shard_size=4,
    )
    return replace(made, **changes)


def run(spec: ClassifySpec, hook: Hook = nothing) -> Summary:
    return run_job(FakeClassifyJob.of(spec, hook), Progress(Console(stderr=True), quiet=True))


def segment(spec: SegmentSpec, hook: Hook = nothing) -> Summary:
    return run_job(FakeSegmentJob.of(spec, hook), Progress(Console(stderr=True), quiet=True))


def at_position(position: int, act: Callable[[], None]) -> Hook:
    def hook(decoded: Decoded) -> None:
        if decoded.piece.first <= position < decoded.piece.stop:
            act()

    return hook


def change_record(job: Path, **changes: object) -> None:
    """Change job.json by hand; None takes a key away."""
    path = job / "job.json"
    record = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in record.items() if value is not None}))


def interrupt() -> None:
    raise KeyboardInterrupt


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file))


def expected() -> list[list[str]]:
    rows = [[f"{index:02d}.png", str(label_of(index * 10))] for index in range(COUNT)]
    return [["image_id", "label"], *rows]


def test_every_image_gets_its_label_in_order(images: Path) -> None:
    summary = run(spec_of(images))
    assert rows_of(images.parent / "out.csv") == expected()
    assert (summary.planned, summary.scored, summary.rejected) == (COUNT, COUNT, 0)
    assert verify(summary.job) == []
    assert view(summary.job).state == "done"


def test_shard_size_changes_no_byte(images: Path) -> None:
    run(spec_of(images))
    run(spec_of(images, output=images.parent / "other.csv", shard_size=10))
    assert (images.parent / "out.csv").read_bytes() == (images.parent / "other.csv").read_bytes()


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


def test_a_torn_ledger_line_is_cut_and_its_shard_done_again(images: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    ledger = images.parent / "out.csv.job" / "ledger.jsonl"
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:-20])
    seen: list[int] = []
    run(spec_of(images), lambda decoded: seen.append(decoded.piece.first))
    assert seen == [4, 8, 12, 16, 20]
    assert rows_of(images.parent / "out.csv") == expected()
    assert all(json.loads(line) for line in ledger.read_text().splitlines())


@pytest.mark.parametrize("damage", [b"", b"00.png,9\n"])
def test_a_damaged_part_is_done_again(images: Path, damage: bytes) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    part = images.parent / "out.csv.job" / "parts" / "0000000.csv"
    part.write_bytes(damage)
    run(spec_of(images))
    assert rows_of(images.parent / "out.csv") == expected()


def test_a_damaged_ledger_line_is_an_error_that_names_it(images: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    ledger = images.parent / "out.csv.job" / "ledger.jsonl"
    ledger.write_bytes(b"rubbish\n" + ledger.read_bytes())
    with pytest.raises(EnvironmentFault, match="line 1"):
        run(spec_of(images))


def test_the_same_command_again_does_nothing_and_restores_a_lost_result(images: Path) -> None:
    run(spec_of(images))
    output = images.parent / "out.csv"
    before = output.read_bytes()
    output.unlink()

    def never(decoded: Decoded) -> None:
        raise AssertionError("nothing is left to predict")

    assert run(spec_of(images), never).resumed == COUNT
    assert output.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"top_k": 3}, "top_k 1, now 3"),
        ({"tta": True}, "tta off, now on"),
        ({"draft": True}, "draft off, now on"),
        ({"bands": (4, 3, 2)}, r"bands none, now \[4, 3, 2\]"),
        ({"scale_from": (0.0, 2047.0)}, r"scale_from none, now \[0.0, 2047.0\]"),
        ({"precision": "bf16"}, "precision fp32, now bf16"),
        ({"batch_size": 4}, "batch_size 2, now 4"),
        ({"exclude": ("0*",)}, "exclude none"),
    ],
)
def test_another_job_is_refused_with_what_differs(
    images: Path, change: dict[str, object], said: str
) -> None:
    run(spec_of(images, precision="fp32"))
    before = (images.parent / "out.csv").read_bytes()
    with pytest.raises(Refused, match=said) as refused:
        run(spec_of(images, **{"precision": "fp32", **change}))
    assert "--overwrite" in str(refused.value)
    assert (images.parent / "out.csv").read_bytes() == before


def test_other_members_are_told_by_their_names() -> None:
    one, two = ({name: {"digest": name} for name in names} for names in (["a"], ["a", "b"]))
    assert differences({"members": one}, {"members": two}) == ["members a, now a, b"]
    changed = {"members": {"a": {"digest": "c"}}}
    assert differences({"members": one}, changed) == ["members.a.digest a, now c"]


def test_the_job_is_held_until_the_engine_has_stopped(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = JobFolder(images.parent / "out.csv.job")
    held: list[bool] = []

    @contextmanager
    def watched(options: EngineOptions, status: Callable[[str], None]) -> Iterator[Engine]:
        with start(options, status) as engine:
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


def test_a_file_that_is_not_ours_is_never_replaced(images: Path) -> None:
    output = images.parent / "out.csv"
    output.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(Refused, match="exists"):
            run(spec_of(images, overwrite=overwrite))
        assert output.read_text() == "mine"
        assert not output.with_name("out.csv.job").exists()


def test_a_running_job_is_refused_to_a_second(images: Path) -> None:
    refusals: list[str] = []

    def second() -> None:
        with pytest.raises(Refused) as refused:
            run(spec_of(images))
        refusals.append(str(refused.value))
        assert view(images.parent / "out.csv.job").state == "running"

    run(spec_of(images), at_position(0, second))
    assert str(os.getpid()) in refusals[0]


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


def test_a_folder_may_be_named_by_a_link_when_the_job_resumes(images: Path) -> None:
    run(spec_of(images))
    (images.parent / "link").symlink_to(images)
    assert run(spec_of(images.parent / "link", output=images.parent / "out.csv")).resumed == COUNT


@pytest.mark.parametrize("header", [b"image_id,label,label_2\n", b"00.png,0\n"])
def test_a_changed_header_is_found(images: Path, header: bytes) -> None:
    summary = run(spec_of(images))
    output = images.parent / "out.csv"
    output.write_bytes(output.read_bytes().replace(b"image_id,label\n", header))
    assert "header" in verify(summary.job)[0]


def test_jobs_are_found_once_and_by_any_name(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(spec_of(images))
    summary = segment(masks_of(images))
    assert [found.path.name for found in find_jobs(images.parent)] == [".job", "out.csv.job"]
    monkeypatch.chdir(images.parent / "masks")
    assert job_of(Path()).resolve() == summary.job.resolve()
    for name in ("/", "x" * 300):
        with pytest.raises(InputError, match="no job there"):
            job_of(Path(name))


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


def test_scores_and_columns(images: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    scores = images.parent / "scores.parquet"
    run(spec_of(images, columns=("agreement", "confidence"), scores=scores, top_k=2))
    rows = rows_of(images.parent / "out.csv")
    assert rows[0] == ["image_id", "label", "label_2", "agreement", "confidence"]
    assert rows[1] == ["00.png", "0", "1", "1.000000", "0.510000"]
    table = parquet.read_table(scores)
    assert table.column("image_id").to_pylist() == [row[0] for row in rows[1:]]
    assert table.num_columns == 51
    assert table.column("p0")[0].as_py() == pytest.approx(0.51)
    # One a shard would make a file of a million images that takes minutes to open.
    assert parquet.ParquetFile(scores).num_row_groups == 1


def test_shard_size_changes_no_byte_of_the_scores(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("hw1.jobs.scores.ROWS", 9)
    files = []
    for size in (2, 10, 100):
        files.append(images.parent / f"{size}.parquet")
        output = images.parent / f"{size}.csv"
        run(spec_of(images, output=output, scores=files[-1], shard_size=size))
    assert parquet.ParquetFile(files[0]).num_row_groups == 3
    assert parquet.read_table(files[0]).num_rows == COUNT
    assert len({file.read_bytes() for file in files}) == 1


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


def test_a_temporary_file_lies_in_the_scratch_folder(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()

    def chunks() -> Iterator[bytes]:
        yield b"a"
        assert [path.name for path in tmp_path.iterdir()] == ["scratch"]
        assert len(list((tmp_path / "scratch").iterdir())) == 1
        yield b"b"

    write_bytes(tmp_path / "whole", chunks(), scratch=tmp_path / "scratch")
    assert (tmp_path / "whole").read_bytes() == b"ab"
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_file_is_written_where_nothing_can_be_moved_from_the_scratch_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As between two volumes of a container that lie on one disk, of one number."""
    (tmp_path / "scratch").mkdir()
    for name in ("rename", "replace"):
        move = getattr(os, name)

        def within(old: Path, new: Path, move: Callable[..., None] = move) -> None:
            if old.parent != new.parent:
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            move(old, new)

        monkeypatch.setattr(os, name, within)
    write_bytes(tmp_path / "whole", [b"ab"], scratch=tmp_path / "scratch")
    assert (tmp_path / "whole").read_bytes() == b"ab"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["scratch", "whole"]


def test_nothing_to_do_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError):
        run(spec_of(tmp_path / "in"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0") | st.sampled_from("\r\n,\"' \udcff"),
    min_size=1,
    max_size=20,
).filter(lambda name: not name.startswith("."))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(names=st.sets(NAMES, min_size=1, max_size=5))
def test_any_name_comes_back_from_the_csv(tmp_path: Path, names: set[str]) -> None:
    folder = tmp_path / "any"
    shutil.rmtree(folder, ignore_errors=True)
    content = io.BytesIO()
    Image.new("L", (3, 3), 120).save(content, "PNG")
    (folder / "in").mkdir(parents=True)
    for name in names:
        (folder / "in" / f"{name}.png").write_bytes(content.getvalue())
    run(spec_of(folder / "in"))
    ids = [row[0] for row in rows_of(folder / "out.csv")[1:]]
    assert ids == sorted((f"{name}.png" for name in names), key=os.fsencode)


def masks_of(images: Path, **changes: object) -> SegmentSpec:
    made = SegmentSpec(
        source=str(images),
        output=images.parent / "masks",
        engine="inline",
        device="cpu",
        shard_size=4,
    )
    return replace(made, **changes)


def test_masks_have_the_images_size_and_the_classes_colour(images: Path) -> None:
    write_grey(images / "deep" / "er" / "x.jpg", 250, (31, 17))
    summary = segment(masks_of(images))
    assert summary.scored == COUNT + 1
    with Image.open(images.parent / "masks" / "deep" / "er" / "x.png") as mask:
        assert (mask.mode, mask.size) == ("RGB", (31, 17))
        assert mask.getcolors() == [(31 * 17, (0, 255, 0))]
    assert verify(summary.job) == []


def test_two_images_for_one_mask_are_refused_with_the_way_out(images: Path) -> None:
    write_grey(images / "00.jpg", 1)
    with pytest.raises(InputError, match=r"00\.jpg and 00\.png.*--keep-suffix"):
        segment(masks_of(images))
    assert not (images.parent / "masks").exists()
    assert segment(masks_of(images, keep_suffix=True)).scored == COUNT + 1
    assert (images.parent / "masks" / "00.jpg.png").exists()


def test_lost_and_changed_masks_are_found_and_made_again(images: Path) -> None:
    summary = segment(masks_of(images))
    masks = images.parent / "masks"
    before = (masks / "03.png").read_bytes()
    (masks / "03.png").unlink()
    shutil.copy(masks / "22.png", masks / "04.png")
    assert len(verify(summary.job)) == 2
    assert segment(masks_of(images)).resumed == COUNT - 4
    assert (masks / "03.png").read_bytes() == before


def test_overwrite_removes_what_a_killed_job_wrote_and_nothing_else(images: Path) -> None:
    masks = images.parent / "masks"
    write_grey(masks / "mine.png", 7)
    mine = (masks / "mine.png").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        segment(masks_of(images), at_position(9, interrupt))
    assert segment(masks_of(images, mask_format="index", overwrite=True)).scored == COUNT
    assert (masks / "mine.png").read_bytes() == mine
    with Image.open(masks / "00.png") as mask:
        assert (mask.mode, mask.getpixel((0, 0))) == ("L", 4)


def test_a_mask_that_is_not_ours_is_never_replaced(images: Path) -> None:
    write_grey(images.parent / "masks" / "07.png", 7)
    with pytest.raises(Refused, match=r"07\.png exists"):
        segment(masks_of(images))


def test_overlays_are_blends_of_image_and_mask(images: Path) -> None:
    summary = segment(masks_of(images, overlay=images.parent / "blends"))
    with Image.open(images.parent / "blends" / "20.png") as blend:
        assert blend.getpixel((0, 0)) == (100, (200 + 255) // 2, 100)
    (images.parent / "blends" / "20.png").unlink()
    assert segment(masks_of(images, overlay=images.parent / "blends")).resumed < summary.planned
    assert (images.parent / "blends" / "20.png").exists()


def test_overlays_are_not_images_of_a_later_job(images: Path) -> None:
    overlay = images / "blends"
    first = segment(masks_of(images, overlay=overlay))
    assert segment(masks_of(images, output=images.parent / "again")).planned == COUNT
    assert segment(masks_of(images, overlay=overlay, overwrite=True)).planned == first.planned
    assert run(spec_of(images, source=str(overlay))).planned == COUNT  # asked for by name


@pytest.mark.parametrize("source", ["in", "in/0*.png", "in/03.png", "@in/list", "@list"])
def test_masks_among_the_images_are_refused(
    images: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(images.parent)
    (images / "list").write_text("03.png\n")
    (images.parent / "link").symlink_to("in")
    (images.parent / "list").write_text("in/03.png\n")
    for output in (Path("in"), Path("link")):
        with pytest.raises(InputError, match="among the images"):
            segment(masks_of(images, source=source, output=output))
    assert not (images / ".job").exists()


def test_overwrite_in_a_copied_job_leaves_the_originals_overlays(images: Path) -> None:
    overlay = images.parent / "blends"
    segment(masks_of(images, overlay=overlay))
    copy = images.parent / "copy"
    shutil.copytree(images.parent / "masks", copy)
    segment(masks_of(images, output=copy, overwrite=True))
    assert len(list(overlay.glob("*.png"))) == COUNT
    assert verify(images.parent / "masks" / ".job") == []
    assert verify(copy / ".job") == []


def test_overwrite_in_a_copied_job_leaves_the_originals_scores(images: Path) -> None:
    pytest.importorskip("pyarrow.parquet")
    scores = images.parent / "scores.parquet"
    run(spec_of(images, scores=scores))
    copy = images.parent / "copy.csv"
    shutil.copy(images.parent / "out.csv", copy)
    shutil.copytree(images.parent / "out.csv.job", images.parent / "copy.csv.job")
    run(spec_of(images, output=copy, overwrite=True))
    assert scores.exists()
    run(spec_of(images, overwrite=True))
    assert not scores.exists()  # the job's own


def test_verify_misses_what_is_gone_beside_the_result(images: Path) -> None:
    pytest.importorskip("pyarrow.parquet")
    scores, overlay = images.parent / "scores.parquet", images.parent / "blends"
    (images / "05.png").write_bytes(b"")
    labels, masks = run(spec_of(images, scores=scores)), segment(masks_of(images, overlay=overlay))
    assert verify(labels.job) == verify(masks.job) == []
    scores.unlink()
    (overlay / "07.png").unlink()
    assert "scores.parquet: expected" in verify(labels.job)[0]
    assert "07.png: expected an overlay" in verify(masks.job)[0]
    rejected = labels.job / "rejected.csv"
    rejected.write_bytes(rejected.read_bytes().replace(b"05.png", b"06.png"))
    (masks.job / "rejected.csv").unlink()
    assert "doesn't name the images" in verify(labels.job)[1]
    assert "rejected.csv: No such file" in verify(masks.job)[1]
    run(spec_of(images, scores=scores))  # the same command mends it
    assert verify(labels.job) == []


def test_a_moved_job_is_listed_where_it_lies(images: Path) -> None:
    segment(masks_of(images))
    (images.parent / "masks").rename(images.parent / "moved")
    [found] = find_jobs(images.parent)
    assert found.as_dict()["output"] == str(images.parent / "moved")


def test_a_mask_whose_name_would_be_too_long_is_refused_in_the_plan(images: Path) -> None:
    shutil.copy(images / "00.png", images / ("x" * 253))
    with pytest.raises(InputError, match=r"255 bytes.*--exclude"):
        segment(masks_of(images))
    assert not (images.parent / "masks").exists()
    assert segment(masks_of(images, exclude=("x*",))).scored == COUNT


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


def test_an_overwrite_that_is_refused_keeps_the_earlier_masks(images: Path) -> None:
    segment(masks_of(images))
    write_grey(images.parent / "blends" / "07.png", 7)
    with pytest.raises(Refused, match=r"07\.png exists"):
        segment(masks_of(images, overwrite=True, overlay=images.parent / "blends"))
    assert segment(masks_of(images)).resumed == COUNT


def test_a_refused_overwrite_leaves_the_earlier_masks_as_they_were(images: Path) -> None:
    (images / "05.png").write_bytes(b"")
    summary = segment(masks_of(images))
    write_grey(images.parent / "masks" / "05.png", 7)  # by hand, for the rejected image
    with pytest.raises(Refused, match=r"05\.png exists"):
        segment(masks_of(images, overwrite=True))
    assert verify(summary.job) == []
    (images.parent / "masks" / "05.png").unlink()
    assert segment(masks_of(images, overwrite=True)).rejected == 1


def test_verify_looks_at_the_copy_that_it_is_given(images: Path) -> None:
    segment(masks_of(images))
    copy = images.parent / "copy"
    shutil.copytree(images.parent / "masks", copy)
    assert verify(copy / ".job") == []
    (copy / "03.png").unlink()
    assert "03.png" in "".join(verify(copy / ".job"))


def test_a_job_begun_on_the_cpu_goes_on_there(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    asked: list[str] = []

    def started(
        options: EngineOptions, status: Callable[[str], None]
    ) -> AbstractContextManager[Engine]:
        asked.append(options.device)
        return start(options, status)

    monkeypatch.setattr("hw1.jobs.run.start", started)
    run(spec_of(images, device="auto"))
    assert asked == ["cpu"]


@pytest.mark.parametrize("task", [run, segment])
def test_other_preprocessing_is_another_job(
    images: Path, monkeypatch: pytest.MonkeyPatch, task: Callable[..., Summary]
) -> None:
    spec = spec_of(images) if task is run else masks_of(images)
    task(spec)
    other = replace(fakes.CHECKPOINT, preprocessing=Preprocessing(size=9))
    monkeypatch.setattr(fakes, "CHECKPOINT", other)
    with pytest.raises(Refused, match="preprocessing"):
        task(spec)


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


def test_threads_say_nothing_of_a_job_on_a_gpu(images: Path) -> None:
    recorded = Profile("cuda", "a GPU", "bf16", "torch deterministic", 2, 0, "2", "0", "12")
    asked = spec_of(images, device="cuda", threads=4)
    assert asked_differences(asked, recorded) == {}
    assert asked_differences(replace(asked, batch_size=4), recorded) == {"batch_size": 4}


def test_a_job_of_an_hw1_with_another_profile_is_refused(images: Path) -> None:
    run(spec_of(images))
    path = images.parent / "out.csv.job" / "job.json"
    description = json.loads(path.read_text())
    description["decides"]["profile"]["compiler"] = "of tomorrow"
    path.write_text(json.dumps(description))
    with pytest.raises(Refused, match=r"another numerics profile .*compiler"):
        run(spec_of(images))
    assert run(spec_of(images, overwrite=True)).scored == COUNT


def test_a_job_of_a_later_hw1_is_refused_with_the_way_out(images: Path) -> None:
    change_record(run(spec_of(images)).job, version=99)
    with pytest.raises(Refused, match=r"later hw1 \(version 99 .*go on with that hw1"):
        run(spec_of(images))
    assert [found.state for found in find_jobs(images.parent)] == ["damaged"]


def test_a_job_begun_before_there_were_versions_is_resumed(images: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    job = images.parent / "out.csv.job"
    change_record(job, version=None, error=None)
    assert run(spec_of(images)).resumed == 8
    assert rows_of(images.parent / "out.csv") == expected()
    assert json.loads((job / "job.json").read_text())["version"] == 1


@pytest.mark.parametrize(("key", "value"), [("images", -4), ("first", "0"), ("digest", 5)])
def test_a_ledger_entry_of_another_type_is_an_error_that_names_it(
    images: Path, key: str, value: object
) -> None:
    ledger = run(spec_of(images)).job / "ledger.jsonl"
    first, *others = ledger.read_text().splitlines(keepends=True)
    ledger.write_text(json.dumps({**json.loads(first), key: value}) + "\n" + "".join(others))
    with pytest.raises(EnvironmentFault, match="line 1"):
        run(spec_of(images))


def test_a_fault_of_the_storage_ends_with_what_to_do(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(spec_of(images))

    def fails(job: Path, shard: int) -> str:
        raise OSError(errno.EIO, "Input/output error", str(job))

    monkeypatch.setattr("hw1.jobs.run.part_digest", fails)
    with pytest.raises(EnvironmentFault, match=r"Input/output error.*same command"):
        run(spec_of(images))


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


def test_an_interrupt_does_not_wait_for_the_listing(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = threading.Event()

    def slow(*_: object) -> None:
        listing.wait(30)

    monkeypatch.setattr("hw1.jobs.run.find", slow)
    monkeypatch.setattr("hw1.jobs.run.start", lambda options, status: interrupt())
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


@pytest.mark.parametrize("damage", ["", "{}", "5", '{"state": "done"}'])
def test_a_damaged_description_is_reported_and_hides_no_other_job(
    images: Path, damage: str
) -> None:
    run(spec_of(images))
    run(spec_of(images, output=images.parent / "b.csv"))
    (images.parent / "b.csv.job" / "job.json").write_text(damage)
    assert [found.state for found in find_jobs(images.parent)] == ["damaged", "done"]
    with pytest.raises(EnvironmentFault, match="begin again"):
        run(spec_of(images, output=images.parent / "b.csv"))


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ({"counts": {}}, r"missing required field `planned` - at `\$\.counts`"),
        ({"counts": 5}, r"Expected `object`, got `int` - at `\$\.counts`"),
        ({"counts": {"planned": -1, "ignored": 0}}, r"`int` >= 0 - at `\$\.counts\.planned`"),
        ({"decides": {}}, "in decides: Object missing required field `members`"),
        ({"shard_size": "4"}, r"Expected `int`, got `str` - at `\$\.shard_size`"),
        ({"version": "new"}, r"at `\$\.version`"),
        ({"command": None}, "missing required field `command`"),
    ],
)
def test_a_description_with_another_value_within_is_reported(
    images: Path, damage: dict[str, Any], found: str
) -> None:
    run(spec_of(images))
    job = run(spec_of(images, output=images.parent / "b.csv")).job
    description = {**json.loads((job / "job.json").read_text()), **damage}
    kept = {key: value for key, value in description.items() if value is not None}
    (job / "job.json").write_text(json.dumps(kept))
    assert [found.state for found in find_jobs(images.parent)] == ["damaged", "done"]
    for look in (view, verify):
        with pytest.raises(EnvironmentFault, match=found):
            look(job)
