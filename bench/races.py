"""Benches that race whole commands on the same images: hw1, the plain scripts, hw1 otherwise."""

import csv
import importlib.util
from pathlib import Path
from statistics import median

import inputs
import machine
import numpy as np
from measure import BUILD, Figure, race, remove, script
from numpy.typing import NDArray
from PIL import Image
from sizes import Sizes

CLASSIFY = [inputs.HW1, "batch", "classify"]
SEGMENT = [inputs.HW1, "batch", "segment"]
INT8 = all(importlib.util.find_spec(name) for name in ("openvino", "nncf"))


def classify_40(sizes: Sizes) -> list[Figure]:
    """The members' vote on small PNGs, 40 × 40, random weights, against the plain script."""
    photos = inputs.crops(BUILD, inputs.PHOTOS, sizes.photos, 40, ".png")
    members = sizes.members
    weights, _ = inputs.weights(BUILD / "weights-40", members, random=True)
    given = {"plain": weights, "hw1": weights}
    if INT8:
        folder = BUILD / "weights-40-int8"
        given["hw1 int8"] = inputs.int8_weights(folder, weights, members, photos)
    options = {name: _named(members, folder) for name, folder in given.items()}
    what = f"{sizes.photos} PNGs, {len(members)} members, random"
    asked = {"hw1": 2.8, "hw1 int8": 4.0}
    return _classified("classify-40", what, photos, options, sizes.runs, asked)


def shipped(sizes: Sizes) -> list[Figure]:
    """What hw1 does with no option, on small PNGs, 40 × 40, against the plain script."""
    from hw1.models.shipped import SHIPPED
    from hw1.models.store import Store

    photos = inputs.crops(BUILD, inputs.PHOTOS, sizes.shipped, 40, ".png")
    members = sizes.shipped_members or Store.shipped().ensemble().members
    named = _named(sizes.shipped_members)
    options = {"plain": named, "hw1": [*named, *sizes.batch]}
    if INT8 and sizes.int8:
        folder = inputs.int8_weights(BUILD / "shipped-int8", SHIPPED, members, photos)
        options["hw1 int8"] = [*_named(sizes.shipped_members, folder), *sizes.batch]
    what = f"{sizes.shipped} PNGs, {_count(members)} of the shipped ensemble"
    return _classified("shipped", what, photos, options, sizes.runs)


def photos_224(sizes: Sizes) -> list[Figure]:
    """Large networks with random weights on JPEGs of all sizes, against the plain script."""
    photos = inputs.enlarged(BUILD, inputs.PHOTOS, sizes.photographs, *inputs.PHOTOGRAPHS)
    members = sizes.photo_members
    weights, _ = inputs.weights(BUILD / "weights-224", members, random=True, size=224)
    named = _named(members, weights)
    options = {"plain": named, "hw1": [*named, *sizes.batch]}
    if INT8 and sizes.int8:
        folder = inputs.int8_weights(BUILD / "weights-224-int8", weights, members, photos)
        options["hw1 int8"] = [*_named(members, folder), *sizes.batch]
    what = f"{sizes.photographs} JPEGs of 0.2 to 12 megapixels, {_count(members)}, random"
    return _classified("photos-224", what, photos, options, sizes.runs)


def draft(sizes: Sizes) -> list[Figure]:
    """vgg16 on large JPEGs, with --draft and without."""
    count, width, height = sizes.large_photos
    photos = inputs.enlarged(BUILD, inputs.PHOTOS, count, (width, height))
    weights, made_up = inputs.weights(BUILD / "weights", ("vgg16",))
    outputs = {name: BUILD / f"{name}.csv" for name in ("whole", "draft")}
    common = [*_named(("vgg16",), weights), *sizes.batch]
    commands = {
        name: [*CLASSIFY, str(photos), str(output), *common] for name, output in outputs.items()
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
    tiles = inputs.crops(BUILD, inputs.TILES, sizes.tiles, 512, ".jpg")
    weights, _ = inputs.weights(BUILD / "weights", ("fcn8s",))
    given = {"plain": weights, "hw1": weights}
    if INT8 and sizes.int8:
        folder = BUILD / "weights-int8"
        given["hw1 int8"] = inputs.int8_weights(folder, weights, ("fcn8s",), tiles)
    outputs = {name: BUILD / f"masks-{name.replace(' ', '-')}" for name in given}
    times = race(
        {
            name: [
                *(script("plain_segment.py") if name == "plain" else SEGMENT),
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


def _named(members: tuple[str, ...], weights: Path | None = None) -> list[str]:
    """The options that name members, and the folder of their weights; nothing for the default."""
    return [
        *(["--weights", str(weights)] if weights else []),
        *(["--members", ",".join(members)] if members else []),
    ]


def _count(members: tuple[str, ...]) -> str:
    return f"{len(members)} members" if len(members) > 1 else members[0]


def _classified(
    bench: str,
    what: str,
    photos: Path,
    options: dict[str, list[str]],
    runs: int,
    asked: dict[str, float] | None = None,
) -> list[Figure]:
    """Race the plain script against hw1 on a folder; ``options`` has those of each contestant."""
    outputs = {name: BUILD / f"{name.replace(' ', '-')}.csv" for name in options}
    times = race(
        {
            name: [
                *(script("plain_classify.py") if name == "plain" else CLASSIFY),
                *(str(photos), str(outputs[name]), *each),
            ]
            for name, each in options.items()
        },
        runs,
        lambda: remove(*outputs.values(), *(Path(f"{path}.job") for path in outputs.values())),
    )
    labels = {name: _labels(path) for name, path in outputs.items()}
    equal = {
        name: float(np.mean([a == b for a, b in zip(labels["plain"], found, strict=True)]))
        for name, found in labels.items()
    }
    return _compared(bench, what, times, "labels", equal, asked or {})


def _compared(
    bench: str,
    what: str,
    times: dict[str, tuple[float, ...]],
    things: str,
    equal: dict[str, float],
    asked: dict[str, float],
) -> list[Figure]:
    """The contestants' times, their ratios to the first, and how far their results agree.

    ``asked`` are the least ratios, of those contestants for which one is set.
    """
    seconds = {name: median(each) for name, each in times.items()}
    has_bars = machine.has_bf16(machine.describe())
    figures = [
        Figure(bench, f"{name}: {what}", seconds[name], "s", runs) for name, runs in times.items()
    ]
    first, *others = seconds
    for name in others:
        ratio = seconds[first] / seconds[name]
        bar = asked.get(name)
        figures += [
            Figure(
                *(bench, f"{first} / {name}", ratio, "×"),
                asked=f"≥ {bar} × with bf16" if bar else "",
                met=ratio >= bar if bar and has_bars else None,
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
