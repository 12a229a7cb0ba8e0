"""ONNX files without a library: their input, outputs, metadata, and the files beside them.

An ONNX file is a protocol buffer; a few fields of it tell what is needed to plan a job. Field
numbers are those of onnx.proto3.
"""

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..core.classes import Classes, classes_from_json, numbered
from ..core.errors import InputError
from ..core.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Sides
from ..core.records import TaskKind
from . import files
from .metadata import preprocessing_from_json

SUFFIX = ".onnx"
KINDS = {1: "float32", 2: "uint8", 10: "float16"}
"""The element types that an image may have, by ONNX's number."""

_SAME_VALUES = ("Identity", "Cast", "Flatten", "Reshape", "Squeeze")

_CROPPED = 256 / 224  # of the resized image's side to the crop's: torchvision's and timm's habit


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: a dimension is None where it isn't fixed."""

    name: str
    kind: int
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sides = ", ".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.name}: ({sides}) {KINDS.get(self.kind, f'of type {self.kind}')}"


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """What an ONNX file says of itself. ``digest`` covers the files with its weights too.

    ``softmax``: its output are probabilities, by the last of its nodes.
    """

    digest: str
    bytes: int
    image: Port
    logits: Port
    metadata: Mapping[str, str]
    softmax: bool = False

    @property
    def channels_last(self) -> bool:
        """Whether the input is (N, H, W, 3) instead of (N, 3, H, W)."""
        return self.image.shape[1] != 3 and self.image.shape[3] == 3

    @property
    def batch(self) -> int | None:
        """The number of images that it takes, where that is fixed."""
        return self.image.shape[0]

    @property
    def sides(self) -> Sides | None:
        """Height and width of the input, where they are fixed."""
        height, width = self.image.shape[1:3] if self.channels_last else self.image.shape[2:]
        return None if height is None or width is None else (height, width)

    @property
    def task(self) -> TaskKind:
        """What the network does: its logits are (N, classes), or (N, classes, h, w)."""
        is_label = self.logits.shape[2:] in ((), (1, 1))
        return "classify" if is_label else "segment"


def read(path: Path) -> OnnxFile:
    """Read an ONNX file. Raises InputError for one that is damaged, or isn't about images."""
    content = files.read_bytes(path)
    try:
        model = memoryview(content)
        graph = next(_each(model, 7))
        ports = _ports(graph, 11), _ports(graph, 12)
        weights = {_text(found, 8) for found in _each(graph, 5)}
        beside = sorted({name for found in _each(graph, 5) for name in _places(found)})
        metadata = {_text(entry, 1): _text(entry, 2) for entry in _each(model, 14)}
        softmax = _ends_in_softmax(graph, ports[1][0].name) if ports[1] else False
    except (ValueError, IndexError, StopIteration, TypeError, struct.error) as error:
        raise InputError(f"{path} is not a whole ONNX file: copy or export it again") from error
    digest = hashlib.sha256(content)
    size = len(content)
    for name in beside:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{path} has its weights outside its folder ({name}): export it again")
        more = files.read_bytes(path.parent / name)
        digest.update(more)
        size += len(more)
    inputs = [port for port in ports[0] if port.name not in weights]
    return OnnxFile(digest.hexdigest(), size, *_checked(inputs, ports[1], path), metadata, softmax)


def about(found: OnnxFile, path: Path) -> tuple[Classes, Preprocessing]:
    """The classes and the preprocessing: the metadata's, else what its shapes and habit tell.

    Habit: ImageNet's mean and std, the image's shorter side resized to 256 for an input of 224,
    and its middle cropped; an input of uint8 gets the pixels as they are. Raises InputError.
    """
    try:
        return _classes(found), _preprocessing(found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def with_metadata(content: bytes, metadata: Mapping[str, str]) -> bytes:
    """The file's bytes with these metadata instead of its own."""
    kept = b"".join(
        _encoded(number, wire, value)
        for number, wire, value in _raw(memoryview(content))
        if number != 14
    )
    entries = (
        _field(14, _field(1, key.encode()) + _field(2, value.encode()))
        for key, value in sorted(metadata.items())
    )
    return kept + b"".join(entries)


def _classes(found: OnnxFile) -> Classes:
    count = found.logits.shape[1]
    text = found.metadata.get("classes")
    if count == 1:
        raise InputError(
            "it has one output, as for a sigmoid, expected one a class: import its state dict "
            "(hw1 models import FILE.pth), which is read as two classes; or export it again with "
            "torch.cat([torch.zeros_like(x), x], 1) as output, x being what the sigmoid gets"
        )
    if text is None and count is None:
        raise InputError(
            "it doesn't say how many classes it has: give their names (hw1 models import "
            "--classes names.txt)"
        )
    if text is None:
        assert count is not None
        return numbered(count, found.task)
    classes = classes_from_json(text, found.task)
    if count is not None and count != len(classes):
        raise InputError(f"its last layer has {count} outputs, and there are {len(classes)} names")
    return classes


def assumed(found: OnnxFile, size: int | Sides | None = None) -> Preprocessing:
    """What an image becomes where no metadata tell. ``size`` is for inputs of any size.

    Raises InputError where neither tells it.
    """
    sides = found.sides or ((size, size) if isinstance(size, int) else size)
    white, mean, std = 1.0, IMAGENET_MEAN, IMAGENET_STD
    if KINDS[found.image.kind] == "uint8":
        white, mean, std = 255.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if found.task == "segment":
        return Preprocessing(None, mean=mean, std=std, white=white, resize=found.sides)
    if sides is None:
        raise InputError(
            "it takes images of any size: say which it was trained on (hw1 models import --size)"
        )
    if sides[0] != sides[1]:
        return Preprocessing(sides, mean=mean, std=std, white=white)
    resize = round(sides[0] * _CROPPED)
    return Preprocessing(sides[0], mean=mean, std=std, white=white, resize=resize)


def _preprocessing(found: OnnxFile) -> Preprocessing:
    text = found.metadata.get("preprocessing")
    if not text:
        return assumed(found)
    given = preprocessing_from_json(text, found.task, 1)
    said = given.sides if found.task == "classify" else given.resize
    if found.sides is not None and said != found.sides:
        raise InputError(
            f"its input is {found.sides[0]} × {found.sides[1]} pixels, and the metadata say {said}"
        )
    return given


def _checked(inputs: list[Port], outputs: list[Port], path: Path) -> tuple[Port, Port]:
    """The image and the logits, the first of the outputs."""
    image = inputs[0] if inputs else None
    shape = image.shape if image else ()
    is_image = len(inputs) == 1 and len(shape) == 4 and image and image.kind in KINDS
    if not image or not is_image or not (shape[1] in (3, None) or shape[3] == 3):
        raise InputError(
            f"{path}: expected one input, an image (N, 3, H, W) or (N, H, W, 3), found "
            f"{'; '.join(map(str, inputs)) or 'none'}"
        )
    if not outputs or len(outputs[0].shape) not in (2, 4):
        raise InputError(
            f"{path}: expected logits (N, classes), or (N, classes, H, W) of a segmenter, found "
            f"{outputs[0] if outputs else 'no output'}"
        )
    return image, outputs[0]


def _ports(graph: memoryview, number: int) -> list[Port]:
    return [_port(found) for found in _each(graph, number)]


def _port(value: memoryview) -> Port:
    kind, shape = 0, []
    for type_ in _each(value, 2):
        for tensor in _each(type_, 1):
            kind = next((n for f, n in _fields(tensor) if f == 1 and isinstance(n, int)), 0)
            shape = [_dimension(d) for sides in _each(tensor, 2) for d in _each(sides, 1)]
    return Port(_text(value, 1), kind, tuple(shape))


def _dimension(value: memoryview) -> int | None:
    return next((n for f, n in _fields(value) if f == 1 and isinstance(n, int) and n > 0), None)


def _ends_in_softmax(graph: memoryview, name: str) -> bool:
    """Whether an output comes from a softmax, through nodes that keep its values."""
    made: dict[str, tuple[str, str]] = {}
    for node in _each(graph, 1):
        first = next((str(bytes(value), "utf-8") for value in _each(node, 1)), "")
        made |= {str(bytes(value), "utf-8"): (_text(node, 4), first) for value in _each(node, 2)}
    for _ in made:
        kind, before = made.get(name, ("", ""))
        if kind not in _SAME_VALUES:
            return kind == "Softmax"
        name = before
    return False


def _places(tensor: memoryview) -> Iterator[str]:
    """The files that hold a tensor's values: names relative to the ONNX file's folder."""
    for entry in _each(tensor, 13):
        if _text(entry, 1) == "location":
            yield _text(entry, 2)


def _each(message: memoryview, number: int) -> Iterator[memoryview]:
    for found, value in _fields(message):
        if found == number:
            if not isinstance(value, memoryview):
                raise ValueError("another type of field")
            yield value


def _text(message: memoryview, number: int) -> str:
    return next((str(bytes(value), "utf-8") for value in _each(message, number)), "")


def _fields(message: memoryview) -> Iterator[tuple[int, "memoryview | int"]]:
    for number, _, value in _raw(message):
        yield number, value


def _raw(message: memoryview) -> Iterator[tuple[int, int, "memoryview | int"]]:
    """A message's fields in order: number, wire type, and value."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield tag >> 3, wire, value
            continue
        if wire == 2:
            length, at = _varint(message, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError("no protocol buffer")
        if at + length > len(message):
            raise ValueError("cut off")
        yield tag >> 3, wire, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, content: bytes) -> bytes:
    return _number(number << 3 | 2) + _number(len(content)) + content


def _encoded(number: int, wire: int, value: "memoryview | int") -> bytes:
    if isinstance(value, int):
        return _number(number << 3 | wire) + _number(value)
    if wire == 2:
        return _field(number, bytes(value))
    return _number(number << 3 | wire) + bytes(value)
