"""Checkpoints made elsewhere become ours: a file that says all that scoring with it needs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..core.classes import Classes, classes_from_json, numbered
from ..core.durable import write_bytes
from ..core.errors import InputError
from ..core.preprocessing import Preprocessing, Sides
from ..core.records import TaskKind
from . import files, onnx_file
from .architectures import ONNX, find_architecture, smallest_size
from .checkpoints import Checkpoint, read_checkpoint, save
from .members import MEMBERS
from .metadata import preprocessing_fault, preprocessing_from_json, preprocessing_to_json
from .wrappers import align, others, unwrap

if TYPE_CHECKING:
    from torch import Tensor, nn

Dtype = Literal["keep", "fp16", "fp32", "8bit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the user says of the checkpoint; None where the file or the library tells.

    ``architecture`` is a word of `architectures`, ``preprocessing`` JSON, and ``changes`` are
    fields of a Preprocessing that go before it.
    """

    architecture: str | None = None
    classes: Classes | None = None
    preprocessing: str | None = None
    changes: Mapping[str, Any] | None = None
    dtype: Dtype = "keep"
    overwrite: bool = False


@dataclass(frozen=True)
class Imported:
    """The new checkpoint, and the names of tensors in the file that scoring has no use for.

    ``sigmoid``: the network has one output, which was made into two (see `binary`).
    """

    checkpoint: Checkpoint
    left_out: tuple[str, ...]
    sigmoid: bool = False


def import_checkpoint(source: Path, output: Path | None, given: Given) -> Imported:
    """Write a checkpoint as safetensors (an ONNX file as ONNX) with metadata.

    ``output`` is a file, or a folder; without it the new file lies beside the old one. Raises
    InputError for a file that can't be read, doesn't fit, or would be overwritten.
    """
    if given.architecture is not None:
        find_architecture(given.architecture)
    if source.is_dir():
        raise InputError(f"{source}: expected a file's name, found a folder")
    if source.suffix.lower() == onnx_file.SUFFIX:
        return _import_onnx(source, output, given)
    suffix = ".safetensors"
    name = f"{given.architecture if given.architecture in MEMBERS else source.stem}{suffix}"
    path = _output(source, output, name, suffix, given.overwrite)
    content = files.read_bytes(source)
    loaded, metadata = files.unpack(content, source)
    state = unwrap(loaded, source)
    word = _word(state, metadata, source, given)
    state, left_out = _useful(state, word)
    preprocessing = _preprocessing(word, metadata, given)
    state, outputs = _at_least_two(state, word, source, preprocessing.sides)
    count = max(outputs, 2)
    classes = _classes(outputs, word, metadata, source, given)
    about = {**metadata, "source": f"{source.name} sha256:{files.file_digest(source)}"}
    _try(state, word, source, count, preprocessing.sides)
    try:
        save(state, path, word, preprocessing, about, dtype=given.dtype, classes=classes)
    except InputError as error:  # it fits: only the dtype is too small
        raise InputError(f"{error}: give --dtype keep") from error
    more = [f"{name} (another state dict)" for name in others(loaded)]
    return Imported(read_checkpoint(path, word), (*more, *left_out), outputs == 1)


def beside(path: Path, checkpoint: Checkpoint) -> tuple[Checkpoint, "nn.Module | None"]:
    """A file to compare with a checkpoint, and its network in plain torch (None of ONNX).

    Where it has no metadata, it is taken for the same architecture, classes and preprocessing.
    Raises InputError where it can't be read, or doesn't fit.
    """
    from .fit import fit

    if path.suffix.lower() == onnx_file.SUFFIX:
        return read_checkpoint(path), None
    state, metadata = files.parse(files.read_bytes(path), path)
    said = bool(metadata.get("member") or metadata.get("architecture"))
    if not said and checkpoint.architecture == ONNX:
        raise InputError(f"{path} doesn't say which network it is of: import it first")
    found = read_checkpoint(path) if said else replace(checkpoint, path=path)
    state, _ = _useful(state, found.architecture)
    sides = found.preprocessing.sides
    state, outputs = _at_least_two(state, found.architecture, path, sides)
    count = max(outputs, 2)
    if count != len(found.classes):
        raise InputError(f"{path} has {count} classes, expected {len(found.classes)}")
    return found, fit(state, found.architecture, path, count, sides)


def guess(state: Mapping[str, "Tensor"]) -> list[str]:
    """The architectures that a state dict fits: presets first, then torchvision's networks.

    A preset's head has the reference's number of classes; with another it is the library's.
    """
    from . import libraries
    from .registry import layout

    presets = [word for word in MEMBERS if _fits(state, word)]
    if presets:
        return presets
    words: dict[str, list[str]] = {}
    for name in libraries.names("torchvision"):
        words.setdefault(libraries.family(name), []).append(f"torchvision:{name}")
    found = []
    for family in words.values():
        names = layout(family[0], 2)
        if len(names.keys() & align(state, names)[0].keys()) > len(names) / 5:
            found += [word for word in family if _fits(state, word)]
    return found


def _import_onnx(source: Path, output: Path | None, given: Given) -> Imported:
    if given.architecture is not None or given.dtype != "keep":
        raise InputError(f"{source} holds its network: --arch and --dtype are for other files")
    name = f"{source.stem}_hw1{onnx_file.SUFFIX}"
    path = _output(source, output, name, onnx_file.SUFFIX, given.overwrite)
    found = onnx_file.read(source)
    if found.bytes > source.stat().st_size and path.absolute().parent != source.absolute().parent:
        raise InputError(
            f"{source} has its weights in a file beside it: export it into one (torch.onnx.export "
            "with external_data=False), or give an output in the same folder"
        )
    metadata = dict(found.metadata)
    if given.classes is not None:
        metadata["classes"] = given.classes.to_json()
    changes = given.changes or {}
    if "preprocessing" in metadata or given.preprocessing:
        base = preprocessing_from_json(
            given.preprocessing or metadata["preprocessing"], found.task, 1
        )
    else:
        base = onnx_file.assumed(found, changes.get("size"))
    preprocessing = _changed(base, changes, found.task, 1)
    metadata["preprocessing"] = preprocessing_to_json(preprocessing)
    classes, _ = onnx_file.about(replace(found, metadata=metadata), source)
    metadata["classes"] = classes.to_json()
    write_bytes(path, [onnx_file.with_metadata(files.read_bytes(source), metadata)])
    return Imported(read_checkpoint(path), ())


def _word(
    state: Mapping[str, "Tensor"], metadata: Mapping[str, str], source: Path, given: Given
) -> str:
    """The architecture: as given, as the metadata say, or as the tensors' shapes do."""
    said = metadata.get("member") or metadata.get("architecture")
    if given.architecture is not None:
        if said not in (None, given.architecture):
            raise InputError(
                f"{source} is a checkpoint of {said}, by its metadata, not of {given.architecture}"
            )
        return given.architecture
    if said is not None:
        return find_architecture(said).word
    words = guess(state)
    if len(words) != 1:
        found = f"its tensors fit {', '.join(words)}" if words else "its tensors fit none of ours"
        raise InputError(
            f"{source} doesn't say which network it is of, and {found}: say it, as in --arch "
            "torchvision:resnet50 (timm's are never guessed)"
        )
    return words[0]


def _try(
    state: Mapping[str, "Tensor"], word: str, source: Path, count: int, sides: Sides | None
) -> None:
    """Raise InputError where the tensors don't fit the network, or it fails with such images."""
    from .fit import check, fit, require_finite, try_out

    if sides is not None and word not in MEMBERS:
        try_out(fit(state, word, source, count, sides), word, sides)
    else:
        check(state, word, source, count, sides)
        require_finite(state, source)


def _at_least_two(
    state: dict[str, "Tensor"], word: str, source: Path, sides: Sides | None
) -> tuple[dict[str, "Tensor"], int]:
    """The state dict with one output made into two, and how many the file's last layer has."""
    from .binary import two_outputs
    from .fit import count_classes

    outputs = count_classes(state, word, source, sides)
    return (two_outputs(state, word, sides) if outputs == 1 else state), outputs


def _useful(state: Mapping[str, "Tensor"], word: str) -> tuple[dict[str, "Tensor"], list[str]]:
    """The tensors of the architecture's own names, and the names of those left out."""
    from . import libraries
    from .registry import layout

    inside, outside = align(state, layout(word, 2))
    found = find_architecture(word)
    starts = libraries.unused(found.library, found.name) if found.library else ()
    unused = [name for name in inside if name.startswith(starts)] if starts else []
    return {n: t for n, t in inside.items() if n not in unused}, [*outside, *unused]


def _preprocessing(word: str, metadata: Mapping[str, str], given: Given) -> Preprocessing:
    found = find_architecture(word)
    least = smallest_size(word)
    if text := given.preprocessing or metadata.get("preprocessing"):
        base = preprocessing_from_json(text, found.task, least)
    else:
        base = found.preprocessing
    return _changed(base, given.changes or {}, found.task, least)


def _changed(
    base: Preprocessing, changes: Mapping[str, Any], task: TaskKind, least: int
) -> Preprocessing:
    """The preprocessing with what was given in its place; a resize goes along with the size."""
    new = dict(changes)
    if task == "segment" and "size" in new:
        raise InputError("a segmenter takes images of any size: give --resize instead of --size")
    old, side = base.size, new.get("size")
    if isinstance(old, int) and isinstance(side, int) and isinstance(base.resize, int):
        new.setdefault("resize", round(base.resize * side / old))
    made = replace(base, **new)
    if fault := preprocessing_fault(made, task, least):
        raise InputError(f"preprocessing: {fault}")
    return made


def _classes(
    outputs: int, word: str, metadata: Mapping[str, str], source: Path, given: Given
) -> Classes:
    """The classes that the user names, or the metadata; else the reference's, or numbers."""
    task = find_architecture(word).task
    count = max(outputs, 2)
    said = metadata.get("classes")
    classes = given.classes or (classes_from_json(said, task) if said else numbered(count, task))
    if len(classes) != count:
        where = "--classes" if given.classes else "the metadata"
        found = f"{count} outputs" if outputs > 1 else "one output, so two classes"
        raise InputError(f"{source}: its last layer has {found}, and {where} {len(classes)} names")
    return classes


def _fits(state: Mapping[str, "Tensor"], word: str) -> bool:
    """Whether names and shapes are the architecture's, with some number of classes."""
    from .fit import check, count_classes

    try:
        useful, _ = _useful(state, word)
        count = count_classes(useful, word, "")
        check(useful, word, "", count)
    except InputError:
        return False
    return word not in MEMBERS or count == len(find_architecture(word).classes)


def _output(source: Path, output: Path | None, name: str, suffix: str, overwrite: bool) -> Path:
    """The new file's path, checked before the work."""
    path = source.with_name(name) if output is None else output
    path = path / name if path.is_dir() else path
    if path.suffix != suffix:
        raise InputError(f"{path}: expected a folder, or a name ending in {suffix}")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: give another name, or --overwrite")
    if path.exists() and path.samefile(source):
        raise InputError(f"{path} is the file itself: give another name")
    files.require_writable(path)
    return path
