"""The numerics profile that a job recorded, and what is asked for now."""

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from hw1.core import numerics
from hw1.core.errors import DeviceFull, Refused
from hw1.core.numerics import Profile
from hw1.core.records import Decoded
from hw1.jobs.identity import fingerprint
from hw1.jobs.profile import asked_differences
from tiny_jobs import (
    COUNT,
    at_position,
    interrupt,
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


def test_a_job_with_tiffs_records_what_decodes_them_and_is_refused_to_another(
    images: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (images / "00.png").rename(images / "00.tif")
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    assert f"tifffile {version('tifffile')}" in _recorded(images)["decides"]["profile"]["libraries"]
    assert "is not installed" not in caplog.text
    with monkeypatch.context() as other:
        other.setattr(numerics, "version", _other_tifffile)
        with pytest.raises(Refused, match=r"profile.libraries .*, now .*tifffile 1"):
            run(spec_of(images))
    assert run(spec_of(images)).scored == COUNT


def test_a_job_without_tiffs_is_begun_and_resumed_whatever_decodes_them(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    assert "libraries" not in _recorded(images)["decides"]["profile"]
    monkeypatch.setattr(numerics, "version", _other_tifffile)
    assert run(spec_of(images)).scored == COUNT


def test_a_missing_imagecodecs_is_said_at_the_start_where_there_are_tiffs(
    images: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run(spec_of(images))
    assert "imagecodecs" not in caplog.text
    (images / "00.png").rename(images / "00.tif")
    run(spec_of(images, overwrite=True))
    assert "imagecodecs is not installed" in caplog.text
    assert "pip install 'hw1[tiff]'" in caplog.text


def test_a_smaller_batch_is_the_same_job_until_something_is_committed(images: Path) -> None:
    """What is to be done where the chosen one doesn't fit a GPU."""

    def full(_: Decoded) -> None:
        raise DeviceFull("the GPU's memory ran out: give a smaller --batch-size")

    asked = spec_of(images, batch_size=8)
    with pytest.raises(DeviceFull):
        run(asked, full)
    with pytest.raises(Refused, match="top_k"):
        run(replace(asked, batch_size=2, top_k=2))
    assert _recorded(images)["decides"]["profile"]["batch_size"] == 8
    assert run(replace(asked, batch_size=2)).scored == COUNT
    record = _recorded(images)
    assert (record["decides"]["profile"]["batch_size"], record["shard_size"]) == (2, 4)
    assert record["fingerprint"] == fingerprint(record["decides"])
    with pytest.raises(Refused, match="batch_size 2, now 4"):
        run(replace(asked, batch_size=4))


def test_so_is_a_cascades_smaller_unit(images: Path) -> None:
    def full(_: Decoded) -> None:
        raise DeviceFull("the GPU's memory ran out: give a smaller --batch-size")

    asked = spec_of(images, batch_size=4, cascade=0.5, cascade_first="vgg16")
    with pytest.raises(DeviceFull):
        run(asked, full)
    assert _recorded(images)["decides"]["profile"]["unit"] == 32
    run(replace(asked, batch_size=2))
    record = _recorded(images)
    assert (record["decides"]["profile"]["unit"], record["shard_size"]) == (16, 16)


def _other_tifffile(name: str) -> str:
    return "1" if name == "tifffile" else version(name)


def _recorded(images: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((images.parent / "out.csv.job" / "job.json").read_text())
    return found
