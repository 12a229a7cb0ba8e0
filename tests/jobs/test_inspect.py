"""Jobs found, and results verified."""

import errno
import shutil
from pathlib import Path

import pytest

from hw1.core.errors import EnvironmentFault, InputError
from hw1.jobs.inspect import find_jobs, job_of, verify
from tiny_jobs import change_record, masks_of, run, segment, spec_of


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
    run(spec_of(images, scores=scores))  # the same command repairs it
    assert verify(labels.job) == []


def test_a_moved_job_is_listed_where_it_lies(images: Path) -> None:
    segment(masks_of(images))
    (images.parent / "masks").rename(images.parent / "moved")
    [found] = find_jobs(images.parent)
    assert found.as_dict()["output"] == str(images.parent / "moved")


def test_verify_looks_at_the_copy_that_it_is_given(images: Path) -> None:
    segment(masks_of(images))
    copy = images.parent / "copy"
    shutil.copytree(images.parent / "masks", copy)
    assert verify(copy / ".job") == []
    (copy / "03.png").unlink()
    assert "03.png" in "".join(verify(copy / ".job"))


def test_jobs_are_listed_where_the_storage_has_no_locks(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_record(run(spec_of(images)).job, state="running")
    run(spec_of(images, output=images.parent / "b.csv"))

    def no_locks(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    done, unknown = find_jobs(images.parent)
    assert (done.state, unknown.state) == ("done", "unknown")
    assert "No locks available" in str(unknown.error)
    with pytest.raises(
        EnvironmentFault, match=r"out\.csv\.job/lock: No locks available.*elsewhere"
    ):
        run(spec_of(images))
