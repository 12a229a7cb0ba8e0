"""What reads files that anyone may have damaged or made up, and small whole files of each kind."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from fuzz.run import Target
from hw1.core.classes import read_classes
from hw1.core.errors import EnvironmentFault, InputError, Refused
from hw1.core.records import Committed
from hw1.evaluation.predictions import read_predictions
from hw1.evaluation.truth import read_labels
from hw1.jobs.ledger import Ledger, read_ledger, repair_ledger
from hw1.jobs.plan import read_plan
from hw1.jobs.record import decode
from hw1.models import files, onnx_file
from hw1.models.checkpoints import read_checkpoint
from hw1.models.ensemble import read_ensemble
from hw1.pipeline import limits
from hw1.pipeline.decode import open_bytes
from hw1.pipeline.limits import Reject
from hw1.pipeline.parts import read_stamps

JOB = Path(__file__).parents[1] / "jobs" / "begun"


def targets() -> list[Target]:
    table = b'image_id,label\na.png,3\n"b,\r""c"".png",49\n'
    line = b'{"shard": 0, "first": 0, "images": 2, "rows": 2, "rejected": 0, "digest": "00", '
    ledger = (line + b'"seconds": 0.5}\n') * 2
    plan = b'{"image_id": "a.png", "size": 7, "mtime_ns": 9}\n' * 2
    toml = b'vote = "logits"\n[weights]\nvgg16 = 1\n"a.safetensors" = 0.5\n[scores]\nx = 0.5\n'
    classes = b"name,r,g,b\nroof,1,2,3\nroad,4,5,6\n"
    return [
        Target("images", _decode, (Reject,), _images()),
        Target("ledger", _read_ledger, (), [ledger]),
        Target("plan", _read_plan, (InputError, EnvironmentFault), [plan]),
        Target("record", _read_record, (ValueError, RecursionError, Refused), _records()),
        Target("stamps", _read_stamps, (), [b"a.png,1,2\nb.png,1,2,ab,3,4\n"]),
        Target("predictions", read_predictions, (InputError,), [table], ".csv"),
        Target("truth", read_labels, (InputError,), [table], ".csv"),
        Target("classes", read_classes, (InputError,), [classes, b"0,a\n1,b\n"], ".csv"),
        Target("ensemble", read_ensemble, (InputError,), [toml], ".toml"),
        Target("safetensors", _read_checkpoint, (InputError,), _checkpoints(), ".safetensors"),
        Target("onnx", _read_onnx, (InputError,), _networks(), ".onnx"),
    ]


def _images() -> list[bytes]:
    random = np.random.default_rng(0)
    colours = Image.fromarray(random.integers(0, 256, (9, 13, 3), np.uint8))
    deep = Image.fromarray(random.integers(0, 65536, (9, 13), np.uint16))
    made = []
    for kind, options in (
        ("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("GIF", {}), ("BMP", {}),
        ("WEBP", {"lossless": True}), ("PPM", {}), ("JPEG2000", {}), ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"compression": "jpeg"}),
        ("TIFF", {"compression": "packbits"}), ("AVIF", {}),
    ):  # fmt: skip
        made.append(_encoded(colours, kind, options))
    made += [_encoded(deep, kind, {}) for kind in ("PNG", "TIFF", "PPM")]
    made.append(_encoded(colours.convert("P"), "PNG", {"transparency": 0}))
    made.append(_encoded(colours.convert("CMYK"), "TIFF", {}))
    return made


def _encoded(image: Image.Image, kind: str, options: dict[str, object]) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _decode(path: Path) -> None:
    before = limits.MAX_PIXELS, limits.MAX_BYTES
    limits.MAX_PIXELS, limits.MAX_BYTES = 2**20, 2**23  # type: ignore[misc]
    try:
        picture = open_bytes(path.read_bytes(), path.name)
        image = picture.rgb()
    finally:
        limits.MAX_PIXELS, limits.MAX_BYTES = before  # type: ignore[misc]
    assert image.mode == "RGB"
    assert sorted(image.size) == sorted(picture.size)


def _read_ledger(path: Path) -> None:
    def holds(entry: Committed) -> bool:
        return entry.shard < 5

    before = read_ledger(path)
    repair_ledger(path, holds)
    entry = Committed(3, 0, 1, 1, 0, "x", 0.0)
    with Ledger(path) as ledger:
        ledger.append(entry)
    assert read_ledger(path) == {k: e for k, e in before.items() if holds(e)} | {3: entry}


def _read_plan(path: Path) -> None:
    read_plan(path.parent, name=path.name)


def _read_record(path: Path) -> None:
    decode(path.read_bytes(), "job.json")


def _records() -> list[bytes]:
    return [path.read_bytes() for path in sorted(JOB.rglob("job.json"))]


def _read_stamps(path: Path) -> None:
    (path.parent / "parts").mkdir(exist_ok=True)
    (path.parent / "parts" / "0000000.files").write_bytes(path.read_bytes())
    read_stamps(path.parent, 0)


def _checkpoints() -> list[bytes]:
    preprocessing = {"size": 40, "scale": 1.0, "mean": [0.5] * 3, "std": [0.2] * 3}
    about = {
        "member": "vgg16",
        "preprocessing": json.dumps(preprocessing),
        "classes": json.dumps({"names": ["a", "b"]}),
        "scores": '{"x": 0.5}',
    }
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    text = json.dumps({"__metadata__": about, "fc.0.weight": tensor}).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little") + text + b"\0\0\x80?"]


def _read_checkpoint(path: Path) -> None:
    found = read_checkpoint(path)
    assert all(isinstance(value, float) for value in found.scores.values())
    files.parse(path.read_bytes(), path)


def _read_onnx(path: Path) -> None:
    onnx_file.about(onnx_file.read(path), path)


def _networks() -> list[bytes]:
    from tempfile import TemporaryDirectory

    from networks import PETS, save_onnx

    with TemporaryDirectory() as place:
        path = Path(place) / "a.onnx"
        save_onnx(path)
        raw = path.read_bytes()
    preprocessing = '{"size": [24, 32], "scale": 1.0, "mean": [0, 0, 0], "std": [1, 1, 1]}'
    about = {"classes": PETS.to_json(), "preprocessing": preprocessing}
    return [raw, onnx_file.with_metadata(raw, about)]
