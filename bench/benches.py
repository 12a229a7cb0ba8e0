"""The benches: each measures one of hw1's claims, and returns its figures."""

import csv
import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import inputs
import machine
import numpy as np
from measure import BUILD, Figure, peaks_of, race, read_json, remove, start, succeed
from numpy.typing import NDArray
from PIL import Image

BENCH = Path(__file__).parent
HW1 = inputs.HW1
CLASSIFY = [HW1, "batch", "classify"]
SEGMENT = [HW1, "batch", "segment"]
INT8 = all(importlib.util.find_spec(name) for name in ("openvino", "nncf"))
CLASSIFIERS = (
    "vgg16",
    "resnet152",
    "densenet161",
    "densenet169",
    "resnext101_32x8d",
    "vgg19_bn_1",
    "vgg19_bn_2",
    "vgg19_bn_3",
)


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    ``real_flow``: crops and tiles, without a GPU and with one, and what else alone.py is given.
    ``old_files``: whether the eight reference checkpoints are made, 2.4 GB. ``int8``: whether fcn8s
    is made int8, which may take minutes.
    """

    runs: int
    photos: int
    tiles: int
    planned: tuple[int, int]
    files: int
    large: tuple[int, int]
    large_photos: tuple[int, int, int]
    flow: int
    real_flow: tuple[tuple[int, int], tuple[int, int], tuple[str, ...]]
    old_files: bool
    int8: bool
    members: tuple[str, ...]


FULL = Sizes(
    *(3, 2500, 257, (1_000, 100_000), 100_000, (8000, 6000), (96, 4000, 3000), 40_960),
    real_flow=((2_560, 128), (200_000, 5_000), ()),
    old_files=True,
    int8=True,
    members=CLASSIFIERS,
)
QUICK = Sizes(
    *(1, 40, 2, (200, 2_000), 2_000, (800, 600), (4, 800, 600), 6_144),
    real_flow=((96, 6), (8_192, 80), ("--shard-size", "2", "--seconds", "0.5")),
    old_files=False,
    int8=False,
    members=("vgg16",),
)


def classify_40(sizes: Sizes) -> list[Figure]:
    """The members' vote on small PNGs, 40 × 40, random weights, against the plain script."""
    photos = inputs.crops(BUILD, inputs.EXAMPLES / "photos", sizes.photos, 40, ".png")
    weights, _ = inputs.weights(BUILD / "weights-40", sizes.members, random=True)
    given = {"plain": weights, "hw1": weights}
    if INT8:
        folder = BUILD / "weights-40-int8"
        given["hw1 int8"] = inputs.int8_weights(folder, weights, sizes.members, photos)
    outputs = {name: BUILD / f"{name.replace(' ', '-')}.csv" for name in given}
    times = race(
        {
            name: [
                *(_script("plain_classify.py") if name == "plain" else CLASSIFY),
                *(str(photos), str(outputs[name]), "--weights", str(folder)),
                *("--members", ",".join(sizes.members)),
            ]
            for name, folder in given.items()
        },
        sizes.runs,
        lambda: remove(*outputs.values(), *(Path(f"{path}.job") for path in outputs.values())),
    )
    labels = {name: _labels(path) for name, path in outputs.items()}
    equal = {
        name: float(np.mean([a == b for a, b in zip(labels["plain"], found, strict=True)]))
        for name, found in labels.items()
    }
    what = f"{sizes.photos} PNGs, {len(sizes.members)} members, random"
    asked = {"hw1": 2.8, "hw1 int8": 4.0}
    return _compared("classify-40", what, times, "labels", equal, asked)


def draft(sizes: Sizes) -> list[Figure]:
    """vgg16 on large JPEGs, with --draft and without."""
    count, width, height = sizes.large_photos
    photos = inputs.enlarged(BUILD, inputs.EXAMPLES / "photos", count, width, height)
    weights, made_up = inputs.weights(BUILD / "weights", ("vgg16",))
    outputs = {name: BUILD / f"{name}.csv" for name in ("whole", "draft")}
    common = ["--weights", str(weights), "--members", "vgg16"]
    commands = {
        name: [HW1, "batch", "classify", str(photos), str(output), *common]
        for name, output in outputs.items()
    }
    commands["draft"].append("--draft")
    times = race(
        commands, sizes.runs, lambda: remove(*BUILD.glob("whole.*"), *BUILD.glob("draft.*"))
    )
    seconds = {name: median(each) for name, each in times.items()}
    labels = zip(*map(_labels, outputs.values()), strict=True)
    what = f"{count} JPEGs of {width} × {height}, vgg16{' (random)' if made_up else ''}"
    return [
        *(
            Figure("draft", f"{name}: {what}", seconds[name], "s", runs)
            for name, runs in times.items()
        ),
        Figure("draft", "whole / draft", seconds["whole"] / seconds["draft"], "×"),
        Figure("draft", "equal labels", 100 * float(np.mean([a == b for a, b in labels])), "%"),
    ]


def segment_512(sizes: Sizes) -> list[Figure]:
    """fcn8s on JPEGs, 512 × 512, against the plain script."""
    tiles = inputs.crops(BUILD, inputs.EXAMPLES / "tiles", sizes.tiles, 512, ".jpg")
    weights, _ = inputs.weights(BUILD / "weights", ("fcn8s",))
    given = {"plain": weights, "hw1": weights}
    if INT8 and sizes.int8:
        folder = BUILD / "weights-int8"
        given["hw1 int8"] = inputs.int8_weights(folder, weights, ("fcn8s",), tiles)
    outputs = {name: BUILD / f"masks-{name.replace(' ', '-')}" for name in given}
    times = race(
        {
            name: [
                *(_script("plain_segment.py") if name == "plain" else SEGMENT),
                *(str(tiles), str(outputs[name]), "--weights", str(folder)),
            ]
            for name, folder in given.items()
        },
        sizes.runs,
        lambda: remove(*outputs.values()),
    )
    plain = {path.name: _pixels(path) for path in outputs["plain"].iterdir()}
    equal = {
        name: float(
            np.mean([(_pixels(path / mask) == plain[mask]).all(axis=2).mean() for mask in plain])
        )
        for name, path in outputs.items()
    }
    asked = {"hw1": 2.6, "hw1 int8": 4.5}
    return _compared("segment-512", f"{sizes.tiles} JPEGs, fcn8s", times, "pixels", equal, asked)


def memory(sizes: Sizes) -> list[Figure]:
    """The driver's peak memory as the plan grows, less the plan itself."""
    peaks, plan = [], 0
    for count in sizes.planned:
        folder = inputs.small_files(BUILD, count)
        output = BUILD / "driver.csv"
        remove(output, BUILD / "driver.csv.job")
        peaks.append(read_json([*_script("driver.py"), str(folder), str(output)])["peak"])
        plan = read_json([*_script("planning.py"), str(folder)])["bytes"]
    small, large = sizes.planned
    grown = peaks[1] - peaks[0]
    beside = (grown - plan) / 2**20
    return [
        *(
            Figure("memory", f"driver's peak, {count:,} images", peak / 2**20, "MiB")
            for count, peak in zip(sizes.planned, peaks, strict=True)
        ),
        Figure("memory", f"the plan of {large:,} images", plan / 2**20, "MiB"),
        Figure(
            "memory",
            f"grown from {small:,} to {large:,}, less the plan",
            beside,
            "MiB",
            asked="flat",
            met=beside < 0.1 * peaks[0] / 2**20,
        ),
    ]


def large_image(sizes: Sizes) -> list[Figure]:
    """The memory that one large image takes, in the driver and in the actor that masks it."""
    width, height = sizes.large
    image = inputs.mosaic(BUILD, inputs.EXAMPLES / "tiles", width, height)
    weights, _ = inputs.weights(BUILD / "weights", ("fcn8s",))
    masks = BUILD / "masks-large"
    remove(masks)
    began = time.perf_counter()
    command = [HW1, "batch", "segment", str(image), str(masks), "--weights", str(weights)]
    with start(command) as process:
        driver, *workers = peaks_of(process)
    succeed(process)
    seconds = time.perf_counter() - began
    what = f"{width} × {height}, fcn8s"
    return [
        Figure("large-image", f"largest worker's peak: {what}", max(workers) / 2**20, "MiB"),
        Figure("large-image", "driver's peak", driver / 2**20, "MiB"),
        Figure("large-image", "the whole command", seconds, "s", (seconds,)),
    ]


def planning(sizes: Sizes) -> list[Figure]:
    """The time that listing a folder and freezing its plan takes."""
    folder = inputs.small_files(BUILD, sizes.files)
    command = [*_script("planning.py"), str(folder)]
    runs = tuple(read_json(command)["seconds"] for _ in range(sizes.runs))
    what = f"{sizes.files:,} small files"
    return [Figure("planning", what, median(runs), "s", runs, "< 15 s", median(runs) < 15)]


def help_text(sizes: Sizes) -> list[Figure]:
    """The time that `hw1 --help` takes."""
    times = race({"hw1": [HW1, "--help"]}, max(5, 3 * sizes.runs), lambda: None)["hw1"]
    seconds = median(times)
    return [Figure("help", "hw1 --help", seconds, "s", times, "< 0.2 s", seconds < 0.2)]


def start_of_job(sizes: Sizes) -> list[Figure]:
    """The time from the start of a command to its first committed shard."""
    photos = inputs.crops(BUILD, inputs.EXAMPLES / "photos", 128, 40, ".png")
    shipped, _ = inputs.weights(BUILD / "weights", ("vgg16",))
    cache = BUILD / "cache"
    vgg16 = ["--members", "vgg16", "--weights", str(shipped)]
    contestants = {
        "vgg16": (vgg16, False),
        "vgg16, inline": ([*vgg16, "--engine", "inline"], False),
        "the shipped ensemble": ([], False),
    }
    if sizes.old_files:
        old = BUILD / "reference"
        if not old.is_dir():
            with start([*_script("reference.py"), str(old)]) as process:
                process.wait()
            succeed(process)
        eight = ["--weights", str(old)]
        contestants["eight old files, no cache"] = (eight, True)
        contestants["eight old files, cached"] = (eight, False)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(sizes.runs):
        for name, (options, emptied) in contestants.items():
            if emptied:
                remove(cache)
            times[name].append(_until_first_shard(photos, options, cache))
    return [
        Figure("start", name, median(runs), "s", tuple(runs), *_asked(name, median(runs)))
        for name, runs in times.items()
    ]


def _until_first_shard(photos: Path, options: list[str], cache: Path) -> float:
    output = BUILD / "first.csv"
    ledger = BUILD / "first.csv.job" / "ledger.jsonl"
    remove(output, ledger.parent)
    command = [HW1, "batch", "classify", str(photos), str(output), "--shard-size", "64"]
    began = time.perf_counter()
    with start(["env", f"HW1_CACHE_DIR={cache}", *command, *options]) as process:
        while process.poll() is None and not (ledger.exists() and ledger.stat().st_size):
            time.sleep(0.005)
        seconds = time.perf_counter() - began
    succeed(process)
    return seconds


def _asked(name: str, seconds: float) -> tuple[str, bool | None]:
    most = {
        "the shipped ensemble": 4.5,
        "eight old files, no cache": 8.0,
        "eight old files, cached": 6.0,
    }.get(name)
    return ("", None) if most is None else (f"≤ {most} s", seconds <= most)


def real_flow(sizes: Sizes) -> list[Figure]:
    """The flow of jobs with real models, against these alone and decoding alone."""
    on_gpu = machine.describe()["gpu"] is not None
    without, with_one, options = sizes.real_flow
    small, tiles = with_one if on_gpu else without
    crops = inputs.crops(BUILD, inputs.EXAMPLES / "photos", 1000, 40, ".png")
    squares = inputs.crops(BUILD, inputs.EXAMPLES / "tiles", min(257, tiles), 512, ".jpg")
    weights, _ = inputs.weights(BUILD / "weights", (*sizes.members, "fcn8s"))
    given = ["--weights", str(weights), *options]
    jobs = {
        "classify": (inputs.repeated(BUILD, crops, small), "real.csv"),
        "segment": (inputs.repeated(BUILD, squares, tiles), "real-masks"),
    }
    figures = []
    for kind, (images, name) in jobs.items():
        output = BUILD / name
        members = ["--members", ",".join(sizes.members)] if kind == "classify" else []
        runs = []
        for _ in range(sizes.runs):
            remove(output, BUILD / f"{name}.job")
            command = [*_script("alone.py"), kind, str(images), str(output), *given, *members]
            runs.append(read_json(command))
        for rate in ("flow", "model", "decode"):
            each = tuple(run[rate] for run in runs)
            figures.append(Figure("real-flow", f"{kind}: {rate}", median(each), "/s", each))
        shares = tuple(run["flow"] / min(run["model"], run["decode"]) for run in runs)
        met = median(shares) >= 0.7 if on_gpu else None
        text = f"{kind}: flow / min(model, decode)"
        figures.append(Figure("real-flow", text, median(shares), "", shares, "≥ 0.7 on a GPU", met))
    return figures


def flow(sizes: Sizes) -> list[Figure]:
    """How busy a GPU is kept that is imitated: the flow against the slower of model and decode."""
    crops = inputs.crops(BUILD, inputs.EXAMPLES / "photos", 1000, 40, ".png")
    images = inputs.repeated(BUILD, crops, sizes.flow)
    output = BUILD / "flow.csv"
    runs = []
    for _ in range(sizes.runs):
        remove(output, BUILD / "flow.csv.job")
        runs.append(read_json([*_script("flow.py"), str(images), str(output)]))
    rates = {name: median(run[name] for run in runs) for name in ("flow", "model", "decode")}
    shares = tuple(run["flow"] / min(run["model"], run["decode"]) for run in runs)
    share = median(shares)
    return [
        *(
            Figure("flow", f"{name}: {sizes.flow} PNGs of 40 × 40", rate, "/s")
            for name, rate in rates.items()
        ),
        Figure("flow", "flow / min(model, decode)", share, "", shares, "≥ 0.7", share >= 0.7),
    ]


def _script(name: str) -> list[str]:
    return [sys.executable, str(BENCH / name)]


def _compared(
    bench: str,
    what: str,
    times: dict[str, tuple[float, ...]],
    things: str,
    equal: dict[str, float],
    asked: dict[str, float],
) -> list[Figure]:
    """The contestants' times, their ratios to the first, and how far their results agree."""
    seconds = {name: median(each) for name, each in times.items()}
    has_bars = machine.has_bf16(machine.describe())
    figures = [
        Figure(bench, f"{name}: {what}", seconds[name], "s", runs) for name, runs in times.items()
    ]
    first, *others = seconds
    for name in others:
        ratio = seconds[first] / seconds[name]
        met = ratio >= asked[name] if has_bars else None
        figures += [
            Figure(
                *(bench, f"{first} / {name}", ratio, "×"),
                asked=f"≥ {asked[name]} × with bf16",
                met=met,
            ),
            Figure(bench, f"{name}: equal {things}", 100 * equal[name], "%"),
        ]
    return figures


def _labels(path: Path) -> list[tuple[str, ...]]:
    with path.open(newline="", encoding="utf-8") as file:
        next(file)  # the header
        return sorted(tuple(row[:2]) for row in csv.reader(file))


def _pixels(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


BENCHES: dict[str, Callable[[Sizes], list[Figure]]] = {
    "classify-40": classify_40,
    "segment-512": segment_512,
    "draft": draft,
    "memory": memory,
    "large-image": large_image,
    "planning": planning,
    "help": help_text,
    "start": start_of_job,
    "flow": flow,
    "real-flow": real_flow,
}
