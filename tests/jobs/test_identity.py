"""What makes another job of a command: refused, with what differs."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import fakes
from fakes import FakeClassifyJob, FakeSegmentJob
from hw1.core import numerics
from hw1.core.errors import EnvironmentFault, Refused
from hw1.core.preprocessing import Preprocessing
from hw1.jobs.identity import differences, of_checkpoint
from hw1.jobs.job import Summary
from hw1.models.ensemble import Ensemble
from tiny_jobs import COUNT, at_position, interrupt, masks_of, run, segment, spec_of


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


def test_a_softmax_that_is_undone_makes_another_job(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of a job that was begun when it wasn't undone would be mixed with others."""
    run(spec_of(images))
    assert of_checkpoint(fakes.CHECKPOINT).keys() == {"digest", "preprocessing"}
    monkeypatch.setattr(fakes, "CHECKPOINT", replace(fakes.CHECKPOINT, softmax=True))
    with pytest.raises(Refused, match="softmax off, now on"):
        run(spec_of(images))


@pytest.mark.parametrize("task", [run, segment])
def test_another_checkpoint_is_another_job(
    images: Path, monkeypatch: pytest.MonkeyPatch, task: Callable[..., Summary]
) -> None:
    spec = spec_of(images) if task is run else masks_of(images)
    task(spec)
    for name in ("CHECKPOINT", "SEGMENTER"):
        monkeypatch.setattr(fakes, name, replace(getattr(fakes, name), digest="1" * 64))
    with pytest.raises(Refused, match=r"digest 0000.*, now 1111"):
        task(spec)


@pytest.mark.parametrize(
    ("ensemble", "said"),
    [
        (Ensemble(("vgg16",), (2.0,), "logits"), r"share 1\.0, now 2\.0"),
        (Ensemble(("vgg16",), (1.0,), "probabilities"), "vote logits, now probabilities"),
    ],
)
def test_another_ensemble_is_another_job(
    images: Path, monkeypatch: pytest.MonkeyPatch, ensemble: Ensemble, said: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), at_position(9, interrupt))
    monkeypatch.setattr(fakes, "ENSEMBLE", ensemble)
    with pytest.raises(Refused, match=said):
        run(spec_of(images))


@pytest.mark.parametrize(
    ("task", "change", "said"),
    [
        (run, {"columns": ("confidence",)}, "columns none, now"),
        (run, {"source": "other"}, "input "),
        (segment, {"mask_format": "index"}, "mask_format rgb, now index"),
        (segment, {"source": "other"}, "input "),
    ],
)
def test_other_outputs_and_inputs_are_another_job(
    images: Path, task: Callable[..., Summary], change: dict[str, object], said: str
) -> None:
    spec = spec_of(images) if task is run else masks_of(images)
    task(spec)
    if "source" in change:
        shutil.copytree(images, images.parent / "other")
        change = {"source": str(images.parent / "other")}
    with pytest.raises(Refused, match=said):
        task(replace(spec, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("task", [run, segment])
def test_a_resume_on_another_machine_is_refused(
    images: Path, monkeypatch: pytest.MonkeyPatch, task: Callable[..., Summary]
) -> None:
    spec = spec_of(images) if task is run else masks_of(images)
    with pytest.raises(KeyboardInterrupt):
        task(spec, at_position(9, interrupt))
    monkeypatch.setattr("hw1.core.numerics._device_model", lambda device: "another CPU")
    with pytest.raises(Refused, match=r"profile\.device_model .*, now another CPU"):
        task(spec)


@pytest.mark.parametrize("job", [FakeClassifyJob, FakeSegmentJob])
def test_models_are_not_loaded_where_the_profile_is_not_met(
    images: Path, job: type[FakeClassifyJob] | type[FakeSegmentJob]
) -> None:
    spec = spec_of(images) if job is FakeClassifyJob else masks_of(images)
    profile = replace(numerics.detect("cpu", "fp32", 2, 1), pillow="0.1")
    work = job.of(spec).work(images, images, profile)  # type: ignore[arg-type]
    with pytest.raises(EnvironmentFault, match=r"pillow '0\.1', here"):
        super(type(work), work).load()
