"""job.json: of other versions, and damaged."""

import json
from pathlib import Path
from typing import Any

import pytest

from hw1.core.errors import EnvironmentFault, Refused
from hw1.jobs.inspect import find_jobs, verify, view
from tiny_jobs import at_position, change_record, expected, interrupt, rows_of, run, spec_of


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


@pytest.mark.parametrize("damage", ["", "{}", "5", '{"state": "done"}'])
def test_a_damaged_description_is_reported_and_hides_no_other_job(
    images: Path, damage: str
) -> None:
    run(spec_of(images))
    run(spec_of(images, output=images.parent / "b.csv"))
    (images.parent / "b.csv.job" / "job.json").write_text(damage)
    (images.parent / "b.csv.job" / "begun.json").unlink()
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
    (job / "begun.json").unlink()
    assert [found.state for found in find_jobs(images.parent)] == ["damaged", "done"]
    for look in (view, verify):
        with pytest.raises(EnvironmentFault, match=found):
            look(job)
