"""The scores file."""

import shutil
from pathlib import Path

import pytest

from hw1.jobs.inspect import verify
from tiny_jobs import COUNT, rows_of, run, spec_of


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


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("size", [2, 100])
def test_damaged_scores_are_found_and_made_again(
    images: Path,
    suffix: str,
    size: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("hw1.jobs.scores.ROWS", 9)
    (images / "05.png").write_bytes(b"")  # rejected: it has no scores
    scores, job = images.parent / f"scores.{suffix}", images.parent / "out.csv.job"
    spec = spec_of(images, scores=scores, shard_size=size)
    run(spec)
    data = scores.read_bytes()
    assert verify(job) == []
    other = images.parent / f"other.{suffix}"
    run(spec_of(images, output=images.parent / "2.csv", include=("0*",), scores=other))
    for damaged in (data[:-40], data[::-1], b"", data + data[-20:], other.read_bytes()):
        scores.write_bytes(damaged)
        assert "scores" in "".join(verify(job))
        caplog.clear()
        run(spec)
        assert f"{scores} was not as written: made again" in caplog.text
        assert scores.read_bytes() == data


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
