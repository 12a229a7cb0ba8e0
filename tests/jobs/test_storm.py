"""Images that went with their folders: the job stops, and rejects none of them."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fakes import write_grey
from hw1.core.errors import EnvironmentFault
from hw1.core.records import Committed, Planned, Rejection, Shard, Written
from hw1.core.spec import ClassifySpec
from hw1.jobs.folder import JobFolder
from hw1.jobs.generations import Plans
from hw1.jobs.inspect import view
from hw1.jobs.storm import MANY, Storm
from hw1.pipeline.parts import commit_part
from tiny_jobs import at_position, interrupt, run, spec_of

EACH = 12


@pytest.fixture(params=[1, 3, 64])
def begun(request: pytest.FixtureRequest, tmp_path: Path) -> ClassifySpec:
    """A job over two folders of twelve images each, in shards of this size, that has its plan."""
    for index in range(2 * EACH):
        write_grey(tmp_path / "in" / "ab"[index // EACH] / f"{index:02d}.png", index * 10)
    size: int = request.param
    spec = replace(spec_of(tmp_path / "in"), batch_size=min(size, 4), shard_size=size)
    with pytest.raises(KeyboardInterrupt):
        run(spec, at_position(0, interrupt))
    return spec


def job_of(spec: ClassifySpec) -> JobFolder:
    return JobFolder(spec.output.with_name("out.csv.job"))


def unmounted(folder: Path) -> None:
    """As an unmount leaves it: empty."""
    folder.rename(folder.parents[1] / "kept")
    folder.mkdir()


def missing(folder: Path) -> None:
    folder.rename(folder.parents[1] / "kept")


def remount(folder: Path) -> None:
    if folder.exists():
        folder.rmdir()
    (folder.parents[1] / "kept").rename(folder)


@pytest.mark.parametrize("lose", [unmounted, missing])
def test_a_folder_that_goes_stops_the_job_and_rejects_nothing(
    begun: ClassifySpec, lose: Callable[[Path], None]
) -> None:
    folder = Path(begun.source) / "b"
    lose(folder)
    with pytest.raises(
        EnvironmentFault, match=r"images or more can't be reached.*/b.*--accept-gone"
    ):
        run(begun)
    assert sum(entry.rejected for entry in job_of(begun).committed().values()) == 0
    assert view(job_of(begun).path).state == "failed"
    remount(folder)
    summary = run(begun)
    assert (summary.scored, summary.rejected) == (2 * EACH, 0)


def test_what_is_gone_for_good_is_accepted(begun: ClassifySpec) -> None:
    unmounted(Path(begun.source) / "b")
    with pytest.raises(EnvironmentFault):
        run(begun)
    summary = run(replace(begun, accept_gone=True))
    assert (summary.scored, summary.reasons) == (EACH, {"gone": EACH})


def test_images_that_went_from_a_folder_that_is_there_are_rejected(begun: ClassifySpec) -> None:
    folder = Path(begun.source) / "b"
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()
    assert run(begun).reasons == {"gone": EACH - 1}


def test_a_small_folder_that_went_is_rejected_in_the_end(tmp_path: Path) -> None:
    write_grey(tmp_path / "in" / "a" / "0.png", 0)
    for index in range(1, MANY):
        write_grey(tmp_path / "in" / "b" / f"{index}.png", index * 10)
    spec = replace(spec_of(tmp_path / "in"), batch_size=1, shard_size=1)
    with pytest.raises(KeyboardInterrupt):
        run(spec, at_position(0, interrupt))
    shutil.rmtree(tmp_path / "in" / "b")
    assert run(spec).reasons == {"gone": MANY - 1}


def entered(tmp_path: Path, *names: str) -> tuple[Storm, Committed]:
    """A shard whose images were all rejected as gone, by whoever looked."""
    images = tuple(Planned(name, 1, 1) for name in names)
    shard = Shard(0, 0, images)
    lost = tuple(Rejection(name, "gone", "No such file or directory") for name in names)
    (tmp_path / "job" / "parts").mkdir(parents=True)
    entry = commit_part(tmp_path / "job", shard, [Written(shard, (), lost)], 0.0)
    plans = Plans.first(images, len(images), 1)
    return Storm(tmp_path / "job", tmp_path / "in", plans), entry


def test_what_a_worker_misses_though_it_is_here_is_not_rejected(tmp_path: Path) -> None:
    write_grey(tmp_path / "in" / "0.png", 0)
    storm, entry = entered(tmp_path, "0.png", "1.png")
    assert not storm.admits(entry)
    with pytest.raises(EnvironmentFault, match=r"0\.png is gone for a worker, though it is here"):
        storm.rest()


def test_in_on_another_device_is_not_the_images_fault(tmp_path: Path) -> None:
    write_grey(tmp_path / "in" / "0.png", 0)
    storm, entry = entered(tmp_path, "1.png")
    storm._devices[tmp_path / "in"] = -1
    assert not storm.admits(entry)
    with pytest.raises(EnvironmentFault, match="is on another device than before"):
        storm.rest()
