"""hw1 as a library: images in memory scored at once, and the command's durable jobs.

    model = hw1.load("my.safetensors")
    for found in model.predict(["a.jpg", "b.jpg"]):
        print(found.name, found.confidence)

See docs/python.md. The names are hw1's own: ``hw1.load``, ``hw1.classify``, ``hw1.segment``.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from threading import Lock
from typing import Any, Literal, TypedDict, Unpack

import click
from rich.console import Console

from .commands import batch
from .core.errors import InputError
from .core.spec import Backend, ClassifySpec, Column, Device, MaskFormat, Precision, SegmentSpec
from .jobs.classify import ClassifyJob
from .jobs.job import Job, Summary
from .jobs.log import messages
from .jobs.progress import Progress
from .jobs.run import run_job
from .jobs.segment import SegmentJob
from .models.members import nearest
from .pipeline.loaded import PathLike

_NOT_HERE = frozenset({"source", "output", "as_json", "verbose", "dry_run"})
_one_at_a_time = Lock()


class JobOptions(TypedDict, total=False):
    """The options of both commands, under the same names with ``_`` for ``-``.

    See ``hw1 batch classify --help`` and ``hw1 batch segment --help``.
    """

    include: str | Sequence[str]
    exclude: str | Sequence[str]
    weights: PathLike
    device: Device
    precision: Precision
    backend: Backend
    shard_size: int
    actors: int
    threads: int
    address: str
    engine: Literal["ray", "inline"]
    timeout: float
    bands: tuple[int, int, int]
    scale_from: tuple[float, float]
    overwrite: bool
    update: bool
    keep_gone: bool
    retry_rejected: bool
    check: bool
    accept_gone: bool
    max_rejected: int | str
    rejected_ok: bool
    tta: bool


class ClassifyOptions(JobOptions, total=False):
    """The options of ``hw1 batch classify``."""

    members: str | Sequence[str]
    ensemble: str
    model: PathLike
    draft: bool
    batch_size: int
    top_k: int
    columns: Column | Sequence[Column]
    scores: PathLike
    safe_csv: bool
    cascade: float
    cascade_first: str


class SegmentOptions(JobOptions, total=False):
    """The options of ``hw1 batch segment``."""

    model: PathLike
    mask_format: MaskFormat
    keep_suffix: bool
    overlay: PathLike


def classify(
    source: PathLike,
    output: PathLike,
    *,
    progress: bool = False,
    **options: Unpack[ClassifyOptions],
) -> Summary:
    """Give each image in ``source`` a class: the durable job of ``hw1 batch classify``.

    The same call, or the same command, resumes a job that was interrupted. ``source`` is a file, a
    folder, a glob, or ``@list.txt``; ``output`` a .csv, .parquet or .jsonl. Nothing is printed;
    with ``progress`` how far it is, and what is tried again, on stderr.

    A Ray that this process has initialised is used, and left running. Jobs on Ray of several
    threads run one after the other. Raises InputError, Refused, EnvironmentFault and
    TooManyRejected, as the command exits with 2, 5, 4 and 4; rejected images are counted in the
    Summary and raise nothing.
    """
    words = _words(batch.classify, source, output, options)
    job = ClassifyJob.open(ClassifySpec(**words))
    return _run(job, _typed(batch.classify, words), progress)


def segment(
    source: PathLike,
    output: PathLike,
    *,
    progress: bool = False,
    **options: Unpack[SegmentOptions],
) -> Summary:
    """Give each image in ``source`` a mask: the durable job of ``hw1 batch segment``.

    ``output`` is a folder. See `classify` for all else.
    """
    words = _words(batch.segment, source, output, options)
    job = SegmentJob.open(SegmentSpec(**words))
    return _run(job, _typed(batch.segment, words), progress)


def _run(job: Job, command: Sequence[str], progress: bool) -> Summary:
    # On stderr in a notebook too, where rich would draw below the cell.
    meter = Progress(Console(stderr=True, force_jupyter=False), quiet=not progress)
    # A job that starts Ray must not have another one use it, and lose it at the end.
    alone = _one_at_a_time if job.spec.engine == "ray" else nullcontext()
    with alone, messages(0) if progress else nullcontext():
        return run_job(job, meter, command)


def _words(
    command: click.Command, source: PathLike, output: PathLike, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The command's words: checked as the command checks them, those alone that were given.

    Raises InputError for an option that it hasn't, or a value that it doesn't take.
    """
    known = {each.name: each for each in command.params if each.name}
    for name in options:
        if name in _NOT_HERE or name not in known:
            names = sorted(known.keys() - _NOT_HERE)
            raise InputError(f"no option {name!r}: {nearest(name, names)}")
    given = {"source": source, "output": output}
    given |= {name: value for name, value in options.items() if value is not None}
    context = click.Context(command)
    return {name: _converted(known[name], value, context) for name, value in given.items()}


def _converted(parameter: click.Parameter, value: Any, context: click.Context) -> Any:
    """A word as the command would make it of its text. Raises InputError where it can't."""
    if isinstance(value, list):
        value = tuple(value)
    elif isinstance(value, os.PathLike):
        value = os.fspath(value)
    if parameter.multiple and isinstance(value, str):
        value = (value,)
    try:
        if value is None:
            raise TypeError("there is none")
        return parameter.type_cast_value(context, value)
    except click.UsageError as error:
        raise InputError(f"{parameter.name}: {error.message}") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{parameter.name}: {value!r} can't be used: {error}") from error


def _typed(command: click.Command, words: dict[str, Any]) -> list[str]:
    """The command that does the same, as ``hw1 jobs show`` gives it."""
    typed = ["hw1", "batch", str(command.name), str(words["source"]), str(words["output"])]
    for parameter in command.params:
        value = words.get(parameter.name or "")
        if parameter.name in ("source", "output") or value is None or value is False:
            continue
        option = max(parameter.opts, key=len)
        if value is True:
            typed.append(option)
            continue
        values = value if parameter.multiple else [value]
        for each in values:
            typed += [option, ",".join(map(str, each)) if isinstance(each, tuple) else str(each)]
    return typed
