"""Jobs that an earlier hw1 began, and that were killed: the folders in ``begun/``, resumed today.

Commit e1a3875 wrote them, with the jobs of its tests (``fakes.py``), of these images; the third
shard was being scored when it was killed. Only what names the place, the machine and the member
that makes the masks is changed.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from hw1.jobs.inspect import verify, view
from tiny_jobs import masks_of, run, segment, spec_of

BEGUN = Path(__file__).parent / "begun"
MTIME = 1_700_000_000_123_456_789
NAMES = [*(f"{number:02d}.ppm" for number in range(12)), 'sub/é, "x".ppm']


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """The images that the jobs were begun with; 05.ppm is empty."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        content = b"P6 9 7 255\n" + bytes([number * 20]) * (9 * 7 * 3)
        (folder / name).write_bytes(content if number != 5 else b"")
        os.utime(folder / name, ns=(MTIME + number, MTIME + number))
    return folder


def put(kind: str, job: Path, place: Path, whole: Path) -> None:
    """Put a job folder of ``begun`` at ``job``, of images and outputs in ``place``.

    ``whole`` is the job folder of a run of today's, which knows the machine.
    """
    shutil.copytree(BEGUN / kind / "job", job)
    text = (job / "job.json").read_text().replace("/begun/", f"{place}/")
    record = json.loads(text)
    today = json.loads((whole / "job.json").read_text())["decides"]["profile"]
    profile = record["decides"]["profile"]
    record["decides"]["profile"] = {name: today[name] for name in profile}
    (job / "job.json").write_text(json.dumps(record))


def test_labels_and_scores_are_those_of_an_undisturbed_run(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow.parquet")
    scores = tmp_path / "scores.parquet"
    spec = spec_of(images, top_k=2, columns=("confidence",), scores=scores)
    whole = run(spec)
    undisturbed = [spec.output.read_bytes(), scores.read_bytes()]
    for path in (spec.output, scores):
        path.unlink()
    whole.job.rename(tmp_path / "whole")
    put("classify", whole.job, tmp_path, tmp_path / "whole")
    assert (view(whole.job).state, view(whole.job).done) == ("killed", 8)
    seen: list[int] = []
    summary = run(spec, lambda decoded: seen.append(decoded.piece.first))
    assert (seen, summary.resumed, summary.rejected) == ([8, 12], 8, 1)
    assert [spec.output.read_bytes(), scores.read_bytes()] == undisturbed
    assert verify(summary.job) == []


def test_masks_are_those_of_an_undisturbed_run(images: Path, tmp_path: Path) -> None:
    whole = segment(masks_of(images, output=tmp_path / "whole"))
    masks = tmp_path / "masks"
    shutil.copytree(BEGUN / "segment" / "masks", masks)
    put("segment", masks / ".job", tmp_path, whole.job)
    assert (view(masks / ".job").state, view(masks / ".job").done) == ("killed", 8)
    seen: list[int] = []
    summary = segment(masks_of(images), lambda d: seen.append(d.piece.first))
    assert (seen, summary.resumed, summary.rejected) == ([8, 12], 8, 1)
    assert pngs(masks) == pngs(tmp_path / "whole")
    assert len(pngs(masks)) == 12
    assert verify(summary.job) == []


def pngs(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}
