"""Chooses a job's numerics profile when it begins, and keeps to it when it resumes."""

import importlib.util
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

import msgspec

from ..core import numerics
from ..core.errors import Refused
from ..core.numerics import Profile
from ..core.spec import JobSpec
from ..execution.engines import Engine
from ..models.arithmetic import libraries
from ..pipeline.tiff_layout import HOW_TO_INSTALL
from .job import Job

_TIFF_PACKAGES: Final = ("imagecodecs", "tifffile")
"""What decodes TIFFs beside Pillow."""


def choose_profile(
    job: Job, engine: Engine, recorded: Profile | None, *, tiffs: bool = False
) -> Profile:
    """The profile of the place where the models will run.

    What is not asked for is as recorded, or, for a new job, chosen by capability. ``tiffs``: the
    plan of a new job has some.
    """
    if recorded is not None:  # jobs begun earlier have none of these
        tiffs = "tifffile" in recorded.libraries
    decoders = _TIFF_PACKAGES if tiffs else ()
    spec = job.spec
    backend = _asked(spec, "backend") or (recorded and numerics.backend_of(recorded)) or "torch"
    device = _asked(spec, "device") or (recorded and recorded.device) or "auto"
    precision = _asked(spec, "precision") or (recorded and recorded.precision) or "auto"
    resolved = engine.probe(numerics.resolve_device, engine.prefer(device))
    batch_size = (
        _asked(spec, "batch_size")
        or (recorded and recorded.batch_size)
        or job.batch_size(resolved, engine.probe(numerics.device_memory, resolved))
    )
    threads = _asked(spec, "threads") or (recorded and recorded.threads) or engine.threads()
    return engine.probe(
        _detect,
        resolved,
        precision,
        batch_size,
        threads,
        (*libraries(job.checkpoints, backend), *decoders),
        backend,
        recorded.unit if recorded else job.unit(batch_size),
        recorded.lanes if recorded else job.lanes(resolved, threads),
    )


def has_tiffs(formats: Collection[str]) -> bool:
    """Whether there are TIFFs among images with these suffixes."""
    return not {".tif", ".tiff"}.isdisjoint(formats)


def missing_codecs(formats: Mapping[str, int]) -> str:
    """What to say where TIFFs are planned (images by suffix) that may need what isn't here."""
    if not has_tiffs(formats) or importlib.util.find_spec("imagecodecs") is not None:
        return ""
    return (
        "imagecodecs is not installed: compressed TIFFs of layouts that Pillow doesn't read will "
        f"be rejected as unsupported: {HOW_TO_INSTALL}"
    )


def recorded_profile(identity: Mapping[str, Any]) -> Profile:
    """The profile of a job that was begun; Refused where another hw1 recorded other things."""
    recorded = identity["profile"]
    unknown = sorted(recorded.keys() - {field.name for field in fields(Profile)})
    try:
        if unknown:
            raise ValueError(f"unknown: {', '.join(unknown)}")
        return msgspec.convert(recorded, Profile)
    except (ValueError, msgspec.ValidationError) as error:
        raise Refused(
            "this job was begun by a version of hw1 that recorded another numerics profile "
            f"({error}): go on with that version, or --overwrite"
        ) from error


def asked_differences(spec: JobSpec, recorded: Profile) -> dict[str, Any]:
    """What the command asks for, of the profile, that is not as recorded."""
    names = ("device", "precision", "backend", "batch_size", "threads")
    asked = {name: _asked(spec, name) for name in names}
    if asked["backend"] == numerics.backend_of(recorded):
        del asked["backend"]  # the profile names it with its variant
    return {
        name: value
        for name, value in asked.items()
        if value is not None
        and value != getattr(recorded, name)
        # On a GPU they decide nothing, and none are recorded.
        and (name, recorded.device) != ("threads", "cuda")
    }


def _asked(spec: JobSpec, name: str) -> Any:
    value = getattr(spec, name, None)
    return None if value == "auto" else value


def _detect(
    device: numerics.Device,
    precision: str,
    batch_size: int,
    threads: int,
    packages: Sequence[str],
    backend: numerics.Backend,
    unit: int,
    lanes: int,
) -> numerics.Profile:
    resolved = numerics.resolve_precision(precision, device, backend)
    return numerics.detect(device, resolved, batch_size, threads, packages, backend, unit, lanes)
