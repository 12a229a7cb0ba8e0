"""The numerics profile that a job recorded, and what is asked for now."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hw1.core.errors import Refused
from hw1.core.numerics import Profile
from hw1.jobs.profile import asked_differences
from tiny_jobs import (
    COUNT,
    run,
    spec_of,
)


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
