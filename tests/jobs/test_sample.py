"""``hw1 jobs verify --sample``: some images scored again, and what that proves."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

import fakes
from fakes import FakeClassifyJob, FakeSegmentJob, write_grey
from hw1.cli import main
from hw1.core.errors import InputError
from hw1.core.records import Decoded, Shard, Work
from hw1.jobs import sample as sampling
from hw1.jobs.folder import JobFolder
from hw1.jobs.job import Summary
from hw1.jobs.profile import recorded_profile
from hw1.jobs.record import JobRecord
from hw1.jobs.sample import Sampled, sample
from tiny_jobs import COUNT, masks_of, run, segment, spec_of


@pytest.fixture(autouse=True)
def fake(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake models score again too."""

    def work(record: JobRecord, folder: JobFolder, weights: Path | None) -> Work:
        profile = recorded_profile(record.identity)
        places = Path(record.root), folder.path, profile
        if record.task == "classify":
            return FakeClassifyJob.of(spec_of(images)).work(*places)
        return FakeSegmentJob.of(masks_of(images)).work(*places)

    monkeypatch.setattr(sampling, "_work", work)


@pytest.mark.parametrize("task", [run, segment])
def test_equal_rows_prove_what_they_can(images: Path, task: Callable[..., Summary]) -> None:
    (images / "05.png").write_bytes(b"")
    job = task(spec_of(images) if task is run else masks_of(images)).job
    found = sample(job, 10)
    assert (found.scored, found.compared, found.differ, found.lost) == (COUNT - 1, 10, [], [])
    assert found.at_most == pytest.approx(1 - 0.05**0.1)
    every = sample(job, 1000)
    assert (every.compared, every.at_most) == (COUNT - 1, 0)
    assert every.text() == "22 of 22 equal"


@pytest.mark.parametrize("task", [run, segment])
def test_images_that_are_decided_together_may_come_in_several_pieces(
    images: Path, task: Callable[..., Summary], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As large masks of one batch on a GPU."""
    (images / "05.png").write_bytes(b"")
    job = task(spec_of(images) if task is run else masks_of(images)).job
    make = sampling._work

    class ByTwos:
        def __init__(self, work: Work) -> None:
            self.work = work

        def __getattr__(self, name: str) -> object:
            return getattr(self.work, name)

        def decode(self, piece: Shard) -> Decoded:
            return self.work.decode(piece.piece(piece.first, min(piece.first + 2, piece.stop)))

    monkeypatch.setattr(sampling, "_work", lambda *places: ByTwos(make(*places)))
    monkeypatch.setattr(sampling, "together", lambda *_: 4)
    found = sample(job, COUNT)
    assert (found.compared, found.differ, found.lost) == (COUNT - 1, [], [])


def test_the_bound_is_clopper_and_pearsons() -> None:
    assert Sampled(10**6, 500).text() == "500 of 500 equal: at most 0.6 % of rows differ, 95 %"
    assert Sampled(10**6, 500, ["a"]).text() == "499 of 500 equal"


@pytest.mark.parametrize("task", [run, segment])
def test_what_scores_otherwise_now_is_a_difference(
    images: Path, task: Callable[..., Summary], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a machine that was broken when it scored: verify alone sees nothing."""
    job = task(spec_of(images) if task is run else masks_of(images)).job
    words = ["jobs", "verify", str(job), "--sample", "99"]
    assert CliRunner().invoke(main, words).exit_code == 0
    if task is run:
        monkeypatch.setattr(fakes.Brightness, "__call__", shifted(fakes.Brightness.__call__))
    else:
        monkeypatch.setattr(fakes.Halves, "__call__", swapped(fakes.Halves.__call__))
    assert CliRunner().invoke(main, words[:3]).exit_code == 0
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "07.png: scores otherwise now\n" in done.stdout
    assert f"scored again: 0 of {COUNT} equal\n" in done.stdout


def test_the_seed_draws(images: Path) -> None:
    job = run(spec_of(images)).job
    folder = JobFolder(job)
    plans = sampling.read_plans(job, folder.read())

    def drawn(seed: int) -> list[str]:
        return [each.row[0] for each in sampling._draw(folder, plans, 5, seed)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(set(drawn(1))) == 5


def test_images_that_went_or_changed_are_said_and_no_difference(images: Path) -> None:
    job = run(spec_of(images)).job
    (images / "03.png").unlink()
    write_grey(images / "04.png", 200, (20, 20))
    found = sample(job, 1000)
    assert (found.compared, found.differ) == (COUNT - 2, [])
    assert found.lost == ["03.png", "04.png"]
    assert found.text() == "21 of 21 equal: at most 13 % of rows differ, 95 %; 2 more are gone or" \
        " changed since, and were not compared"  # fmt: skip
    shutil.rmtree(images)
    with pytest.raises(InputError, match="none of 5 images drawn"):
        sample(job, 5)


def test_times_that_have_all_shifted_alike_are_no_change(images: Path) -> None:
    job = run(spec_of(images)).job
    for path in images.iterdir():
        shifted = path.stat().st_mtime_ns + 3600 * 10**9
        os.utime(path, ns=(shifted, shifted))
    assert sample(job, 1000).compared == COUNT


def test_an_updates_images_have_their_own_places(images: Path) -> None:
    run(spec_of(images))
    write_grey(images / "00a.png", 77)
    write_grey(images / "07.png", 200, (5, 5))
    found = sample(run(spec_of(images, update=True)).job, 1000)
    assert (found.scored, found.compared, found.differ) == (COUNT + 1, COUNT + 1, [])


def test_other_checkpoints_are_refused(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    job = run(spec_of(images)).job
    done = CliRunner().invoke(main, ["jobs", "verify", str(job), "--sample", "2"])
    assert done.exit_code == 2
    assert "expected the checkpoint of vgg16 that scored (SHA-256 000000000000…)" in done.stderr


def shifted(call: Callable[..., fakes.Predicted]) -> Callable[..., fakes.Predicted]:
    def again(self: fakes.Brightness, decoded: fakes.Decoded) -> fakes.Predicted:
        found = call(self, decoded)
        scores, agreement = found.arrays
        return fakes.replace(found, arrays=(fakes.np.roll(scores, 1, axis=1), agreement))

    return again


def swapped(call: Callable[..., fakes.Predicted]) -> Callable[..., fakes.Predicted]:
    def again(self: fakes.Halves, decoded: fakes.Decoded) -> fakes.Predicted:
        found = call(self, decoded)
        return fakes.replace(found, arrays=tuple(7 - mask for mask in found.arrays))

    return again
