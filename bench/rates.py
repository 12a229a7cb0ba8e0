"""Benches of a job's flow: images a second, against its model alone and its decoding alone."""

from pathlib import Path
from statistics import median

import inputs
import machine
from measure import BUILD, Figure, read_json, remove, script
from sizes import Flows, Sizes


def flow(sizes: Sizes) -> list[Figure]:
    """How busy a GPU is kept that is imitated: the flow against the slower of model and decode."""
    crops = inputs.crops(BUILD, inputs.PHOTOS, 1000, 40, ".png")
    images = inputs.repeated(BUILD, crops, sizes.flow)
    output = BUILD / "flow.csv"
    runs = []
    for _ in range(sizes.runs):
        remove(output, BUILD / "flow.csv.job")
        runs.append(read_json([*script("flow.py"), str(images), str(output)]))
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


def real_flow(sizes: Sizes) -> list[Figure]:
    """The flow of jobs with real models, against these alone and decoding alone."""
    on_gpu = machine.describe()["gpu"] is not None
    jobs = _real_jobs(sizes, sizes.real_flow_on_gpu if on_gpu else sizes.real_flow)
    figures = []
    for name, (kind, images, options) in jobs.items():
        output = BUILD / ("real-masks" if kind == "segment" else f"real-{name}.csv")
        runs = []
        for _ in range(sizes.runs):
            remove(output, BUILD / f"{output.name}.job")
            command = [*script("alone.py"), kind, str(images), str(output)]
            runs.append(read_json([*command, *sizes.real_options, *options]))
        for rate in ("flow", "model", "decode"):
            each = tuple(run[rate] for run in runs)
            figures.append(Figure("real-flow", f"{name}: {rate}", median(each), "/s", each))
        shares = tuple(run["flow"] / min(run["model"], run["decode"]) for run in runs)
        met = median(shares) >= 0.7 if on_gpu else None
        text = f"{name}: flow / min(model, decode)"
        figures.append(Figure("real-flow", text, median(shares), "", shares, "≥ 0.7 on a GPU", met))
    return figures


def _real_jobs(sizes: Sizes, counts: Flows) -> dict[str, tuple[str, Path, list[str]]]:
    """Each job's kind, its images and its options."""
    crops = inputs.crops(BUILD, inputs.PHOTOS, 1000, 40, ".png")
    tiles = inputs.crops(BUILD, inputs.TILES, min(257, counts.tiles), 512, ".jpg")
    photos = inputs.enlarged(BUILD, inputs.PHOTOS, sizes.photographs, *inputs.PHOTOGRAPHS)
    small, _ = inputs.weights(BUILD / "weights-40", sizes.members, random=True)
    shipped, _ = inputs.weights(BUILD / "weights", ("fcn8s",))
    first = sizes.photo_members[0]
    large, _ = inputs.weights(BUILD / "weights-224", (first,), random=True, size=224)
    batch = str(counts.photo_batch)
    return {
        "classify": (
            "classify",
            inputs.repeated(BUILD, crops, counts.crops),
            ["--weights", str(small), "--members", ",".join(sizes.members)],
        ),
        "segment": (
            "segment",
            inputs.repeated(BUILD, tiles, counts.tiles),
            ["--weights", str(shipped)],
        ),
        "photos": (
            "classify",
            inputs.repeated(BUILD, photos, counts.photographs),
            [
                *("--weights", str(large), "--members", first),
                *("--batch-size", batch, "--shard-size", batch),
            ],
        ),
    }
