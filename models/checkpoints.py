"""Checkpoints: what a file says of itself, the network with its weights, a new file of one."""

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from ..core.classes import MOST_IN_MASKS, Classes, classes_from_json, reference_classes
from ..core.errors import EnvironmentFault, InputError
from ..core.preprocessing import Preprocessing
from ..core.records import TaskKind
from . import cache, eight_bits, files, onnx_file
from .architectures import LIBRARIES, ONNX, find_architecture, require_library, smallest_size
from .members import MEMBERS
from .metadata import (
    preprocessing_from_json,
    preprocessing_to_json,
    reference_preprocessing,
    tensors_digest,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

READERS = 2
"""Checkpoints read at a time, beside the one that is made a network: memory holds so many more."""


@dataclass(frozen=True)
class Checkpoint:
    """A network's weights in a file, and what their metadata say.

    ``member`` is its name in an ensemble: a preset's, or its file's. ``digest`` is the file's
    SHA-256, in hexadecimal. ``architecture`` is a word of `architectures`, or "onnx". ``softmax``:
    it gives probabilities, of which logits are made.
    """

    member: str
    path: Path
    digest: str
    preprocessing: Preprocessing
    metadata: Mapping[str, str] = field(hash=False)
    bytes: int
    architecture: str
    task: TaskKind
    classes: Classes
    softmax: bool = False

    @property
    def is_int8(self) -> bool:
        """Whether the file holds a network that computes in int8, which OpenVINO runs."""
        return self.metadata.get("arithmetic") == "int8"

    @property
    def is_old(self) -> bool:
        """Whether the file is in one of torch's formats, which are converted in the cache."""
        foreign = self.metadata or self.path.suffix == ".safetensors"
        return not foreign and self.architecture != ONNX

    @property
    def library(self) -> str | None:
        """The package that runs it, besides torch and torchvision, where OpenVINO doesn't."""
        if self.architecture == ONNX:
            return "onnxruntime"
        return "timm" if self.architecture.startswith("timm:") else None

    @property
    def scores(self) -> dict[str, float]:
        """What it scored, by data set, in finite numbers; empty where its metadata don't say."""
        try:
            scores = json.loads(self.metadata.get("scores", "{}"))
            found = {str(name): float(value) for name, value in scores.items()}
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return {}
        return {name: value for name, value in found.items() if isfinite(value)}


def read_checkpoint(path: Path, member: str | None = None) -> Checkpoint:
    """The checkpoint in a file of any name. Raises InputError where it isn't of ``member``.

    Without ``member``, which is an architecture's word, the metadata or the file's name must tell
    it. A file without metadata gets the reference's preprocessing and classes.
    """
    if path.suffix.lower() == onnx_file.SUFFIX:
        return _read_onnx(path)
    if path.name.startswith(tuple(f"{library}:" for library in LIBRARIES)) and not path.exists():
        raise InputError(
            f"{path.name} is an architecture, expected a checkpoint's file: train one (hw1 train "
            f"{{classify|segment}} DATA --arch {path.name}) or import one (hw1 models import)"
        )
    if path.name in MEMBERS and not path.exists():
        raise InputError(
            f"{path.name} is a preset, expected a checkpoint's file: give --members {path.name}"
        )
    digest = cache.digest_of(path)
    metadata = files.read_metadata(path)
    word = _architecture_of(path, metadata, member)
    try:
        task = _task_of(word, metadata)
        classes = classes_from_json(metadata.get("classes"), task)
        preprocessing = reference_preprocessing(task)
        if text := metadata.get("preprocessing"):
            preprocessing = preprocessing_from_json(text, task, smallest_size(word))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    name = word if word in MEMBERS else path.name
    size = path.stat().st_size
    return Checkpoint(name, path, digest, preprocessing, metadata, size, word, task, classes)


def load(checkpoint: Checkpoint) -> "nn.Module":
    """The network with the checkpoint's weights: eval mode, float32, CPU.

    Raises InputError where the file has changed since it was found, is damaged, holds more than
    tensors, doesn't fit its architecture (with the first names that differ), or is ONNX.
    """
    return _network(checkpoint, verified(_of_floats(checkpoint)))


def load_each(checkpoints: Sequence[Checkpoint]) -> "Iterator[nn.Module | None]":
    """The networks of `load`, in order; the next files are read while one is put to use.

    Only reading, hashing and unpickling are done in threads: what the networks compute, and how
    they're laid out, stays the caller's thread's. None for an ONNX file, which is its runtime's to
    read. Raises as `load`.
    """
    import torch

    inference = torch.is_inference_mode_enabled()  # a thread's own

    def read(checkpoint: Checkpoint) -> "dict[str, Tensor] | None":
        with torch.inference_mode(inference):
            return None if checkpoint.architecture == ONNX else verified(_of_floats(checkpoint))

    with ThreadPoolExecutor(READERS) as readers:
        coming: deque[tuple[Checkpoint, Future[dict[str, Tensor] | None]]] = deque()
        rest = iter(checkpoints)
        while True:
            for checkpoint in islice(rest, READERS + 1 - len(coming)):
                coming.append((checkpoint, readers.submit(read, checkpoint)))
            if not coming:
                return
            checkpoint, reading = coming.popleft()
            state = reading.result()
            del reading  # its result would stay in memory beside the network
            yield None if state is None else _network(checkpoint, state)
            del state


def load_state(checkpoint: Checkpoint) -> dict[str, "Tensor"]:
    """The checkpoint's tensors as they are stored (a vgg19_bn's perhaps collapsed).

    Raises InputError as `load` does.
    """
    from .fit import check, require_finite

    state = verified(_of_floats(checkpoint))
    sides = checkpoint.preprocessing.sides
    check(state, checkpoint.architecture, checkpoint.path, len(checkpoint.classes), sides)
    require_finite(state, checkpoint.path)
    return state


def verify(checkpoint: Checkpoint) -> None:
    """Read a checkpoint whole. Raises InputError where it's damaged, or can't be run here."""
    if not checkpoint.is_int8:
        require_library(checkpoint.architecture)
    if checkpoint.is_int8:
        verified(checkpoint)
    elif checkpoint.architecture != ONNX:
        load_state(checkpoint)
    elif read_checkpoint(checkpoint.path).digest != checkpoint.digest:
        raise InputError(f"{checkpoint.path} has changed since it was found")


def agreed_classes(checkpoints: Sequence[Checkpoint]) -> Classes:
    """The classes of an ensemble. Raises InputError where its members differ, and in what."""
    first = checkpoints[0]
    for other in checkpoints[1:]:
        if difference := first.classes.difference(other.classes):
            raise InputError(
                f"{first.member} and {other.member} can't vote together, they differ in their "
                f"classes: {difference}"
            )
    return first.classes


def save(
    network: "nn.Module | Mapping[str, Tensor]",
    path: Path,
    word: str,
    preprocessing: Preprocessing,
    metadata: Mapping[str, str],
    *,
    dtype: Literal["fp16", "fp32", "8bit", "keep"] = "fp16",
    classes: Classes | None = None,
) -> None:
    """Write a checkpoint of an architecture as safetensors, whole or not at all.

    Takes a network or its state dict (a vgg19_bn's may be collapsed) and adds the architecture,
    the classes (None: the reference's), the preprocessing and the tensors' digest to the metadata.
    Equal input gives equal bytes; ``keep`` leaves weights in the dtype that they have, and in
    eight bits what the metadata say was stored so. Raises InputError where it doesn't fit the
    architecture, or a value the dtype.
    """
    import torch

    from .fit import cast, check

    state = dict(network.state_dict() if isinstance(network, torch.nn.Module) else network)
    state = {name: tensor.detach().cpu() for name, tensor in state.items()}
    task = find_architecture(word).task
    classes = classes or reference_classes(task)
    _check_masks(task, classes)
    check(state, word, "the state dict", len(classes), preprocessing.sides)
    about = {key: text for key, text in metadata.items() if key != eight_bits.KEY}
    stored = state
    if dtype == "8bit" or (dtype == "keep" and eight_bits.KEY in metadata):
        stored = eight_bits.encode(state)
        state = eight_bits.decode(stored, path)
        about[eight_bits.KEY] = eight_bits.STORED
    elif dtype != "keep":
        stored = state = cast(state, {"fp16": torch.float16, "fp32": torch.float32}[dtype], path)
    named = {"member": word} if word in MEMBERS else {"architecture": word, "task": task}
    about |= {
        **named,
        "classes": classes.to_json(),
        "preprocessing": preprocessing_to_json(preprocessing),
        "digest": tensors_digest(state),
    }
    files.write(stored, path, about)


def _network(checkpoint: Checkpoint, state: dict[str, "Tensor"]) -> "nn.Module":
    from .fit import fit

    sides = checkpoint.preprocessing.sides
    word, count = checkpoint.architecture, len(checkpoint.classes)
    return fit(state, word, checkpoint.path, count, sides)


def verified(checkpoint: Checkpoint) -> dict[str, "Tensor"]:
    """The tensors of a checkpoint whose bytes are those that its digests tell.

    Of one in torch's formats from a copy in the cache, where that is there. Raises InputError where
    they aren't.
    """
    import hashlib

    path = checkpoint.path
    if checkpoint.is_old:
        kept = cache.read_converted(checkpoint.digest)
        return _from_old(checkpoint) if kept is None else kept
    before = cache.identity(path)
    if cache.was_whole(path, checkpoint.digest):
        with suppress(InputError):  # one of torch's files under another suffix
            state = files.read_known(path)
            if cache.identity(path) == before:
                return state
    # What is hashed is what is used, whatever is written to the file meanwhile.
    content = files.read_bytes(path)
    _require_digest(checkpoint, hashlib.sha256(content).hexdigest())
    state, metadata = files.parse(content, path)
    if metadata.get("digest", "") not in ("", digest := tensors_digest(state)):
        raise InputError(
            f"{path} is damaged: its tensors' digest is {digest[:12]}…, its metadata say "
            f"{metadata['digest'][:12]}…: copy it again"
        )
    cache.note_whole(path, before, checkpoint.digest)
    return state


def _from_old(checkpoint: Checkpoint) -> dict[str, "Tensor"]:
    """The tensors of a file in one of torch's formats, which may be large and its digest known.

    What's read is what was hashed where the file's times and inode are the same behind it. Where
    they aren't, a chmod may have changed them: then the bytes in memory are hashed.
    """
    import hashlib

    before = cache.identity(checkpoint.path)
    _require_digest(checkpoint, cache.digest_of(checkpoint.path))
    state = files.read_old(checkpoint.path)
    if cache.identity(checkpoint.path) == before:
        return state
    content = files.read_bytes(checkpoint.path)
    _require_digest(checkpoint, hashlib.sha256(content).hexdigest())
    return files.parse(content, checkpoint.path)[0]


def _require_digest(checkpoint: Checkpoint, found: str) -> None:
    if found != checkpoint.digest:
        raise InputError(
            f"{checkpoint.path} has changed: its SHA-256 was {checkpoint.digest[:12]}…, now "
            f"{found[:12]}…"
        )


def keep_copies(checkpoints: Sequence[Checkpoint]) -> None:
    """Convert old files in the cache, where copies aren't there yet: when nobody waits for it."""
    for checkpoint in checkpoints:
        if cache.is_lacking(checkpoint):
            # It has gone, or changed, since; memory is short (torch raises RuntimeError).
            with suppress(InputError, EnvironmentFault, MemoryError, OSError, RuntimeError):
                cache.keep_converted(checkpoint.digest, verified(checkpoint))


def _of_floats(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint; InputError where it holds int8 arithmetic instead of weights."""
    if checkpoint.is_int8:
        raise InputError(
            f"{checkpoint.path} holds an int8 network for scoring: give the checkpoint that it "
            "was made of, or leave it out of an ensemble with --members"
        )
    return checkpoint


def _read_onnx(path: Path) -> Checkpoint:
    found = onnx_file.read(path)
    classes, preprocessing = onnx_file.about(found, path)
    _check_masks(found.task, classes)
    return Checkpoint(
        path.name,
        path,
        found.digest,
        preprocessing,
        dict(found.metadata),
        found.bytes,
        ONNX,
        found.task,
        classes,
        found.softmax,
    )


def _architecture_of(path: Path, metadata: Mapping[str, str], asked: str | None) -> str:
    """The word for what a file is a checkpoint of: as asked, by its metadata, or by its name."""
    said = metadata.get("member") or metadata.get("architecture")
    if asked is not None and said is not None and said != asked:
        raise InputError(f"{path} is a checkpoint of {said}, by its metadata, not of {asked}")
    named = next((name for name in MEMBERS if path.name in MEMBERS[name].file_names), None)
    word = asked or said or named
    if word is None:
        raise InputError(
            f"{path} doesn't say which network it is of: make it a checkpoint that does, with "
            f"hw1 models import {path.name} NEW.safetensors --arch torchvision:NAME (or timm:NAME, "
            f"or one of {', '.join(MEMBERS)})"
        )
    return word if said == word and "task" in metadata else find_architecture(word).word


def _task_of(word: str, metadata: Mapping[str, str]) -> TaskKind:
    """From the metadata, where they tell it: a library's import takes seconds."""
    said = metadata.get("task")
    if word not in MEMBERS and said in get_args(TaskKind):
        return cast(TaskKind, said)
    return find_architecture(word).task


def _check_masks(task: TaskKind, classes: Classes) -> None:
    if task == "segment" and len(classes) > MOST_IN_MASKS:
        raise InputError(f"{len(classes)} classes of a segmenter: expected at most {MOST_IN_MASKS}")
