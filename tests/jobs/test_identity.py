"""What makes another job of a command: refused, with what differs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import fakes
from hw1.core.errors import Refused
from hw1.core.preprocessing import Preprocessing
from hw1.jobs.identity import differences
from hw1.jobs.job import Summary
from tiny_jobs import COUNT, masks_of, run, segment, spec_of


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


def test_other_members_are_named() -> None:
    one, two = ({name: {"digest": name} for name in names} for names in (["a"], ["a", "b"]))
    assert differences({"members": one}, {"members": two}) == ["members a, now a, b"]
    changed = {"members": {"a": {"digest": "c"}}}
    assert differences({"members": one}, changed) == ["members.a.digest a, now c"]


def test_a_folder_may_be_named_by_a_link_when_the_job_resumes(images: Path) -> None:
    run(spec_of(images))
    (images.parent / "link").symlink_to(images)
    assert run(spec_of(images.parent / "link", output=images.parent / "out.csv")).resumed == COUNT


@pytest.mark.parametrize("task", [run, segment])
def test_other_preprocessing_is_another_job(
    images: Path, monkeypatch: pytest.MonkeyPatch, task: Callable[..., Summary]
) -> None:
    spec = spec_of(images) if task is run else masks_of(images)
    task(spec)
    for name in ("CHECKPOINT", "SEGMENTER"):
        other = replace(getattr(fakes, name), preprocessing=Preprocessing(size=9))
        monkeypatch.setattr(fakes, name, other)
    with pytest.raises(Refused, match="preprocessing"):
        task(spec)
