"""Benches of what a job costs beside its models: memory, planning, the start."""

import time
from pathlib import Path
from statistics import median

import inputs
from measure import BUILD, Figure, peaks_of, race, read_json, remove, script, start, succeed
from sizes import Sizes


def memory(sizes: Sizes) -> list[Figure]:
    """The driver's peak memory as the plan grows, less the plan itself."""
    peaks, plan = [], 0
    for count in sizes.planned:
        folder = inputs.small_files(BUILD, count)
        output = BUILD / "driver.csv"
        remove(output, BUILD / "driver.csv.job")
        peaks.append(read_json([*script("driver.py"), str(folder), str(output)])["peak"])
        plan = read_json([*script("planning.py"), str(folder)])["bytes"]
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
    image = inputs.mosaic(BUILD, inputs.TILES, width, height)
    weights, _ = inputs.weights(BUILD / "weights", ("fcn8s",))
    masks = BUILD / "masks-large"
    remove(masks)
    began = time.perf_counter()
    command = [inputs.HW1, "batch", "segment", str(image), str(masks), "--weights", str(weights)]
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
    command = [*script("planning.py"), str(folder)]
    runs = tuple(read_json(command)["seconds"] for _ in range(sizes.runs))
    what = f"{sizes.files:,} small files"
    return [Figure("planning", what, median(runs), "s", runs, "< 15 s", median(runs) < 15)]


def help_text(sizes: Sizes) -> list[Figure]:
    """The time that `hw1 --help` takes."""
    times = race({"hw1": [inputs.HW1, "--help"]}, max(5, 3 * sizes.runs), lambda: None)["hw1"]
    seconds = median(times)
    return [Figure("help", "hw1 --help", seconds, "s", times, "< 0.2 s", seconds < 0.2)]


def start_of_job(sizes: Sizes) -> list[Figure]:
    """The time from the start of a command to its first committed shard."""
    photos = inputs.crops(BUILD, inputs.PHOTOS, 128, 40, ".png")
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
            with start([*script("reference.py"), str(old)]) as process:
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
    command = [inputs.HW1, "batch", "classify", str(photos), str(output), "--shard-size", "64"]
    began = time.perf_counter()
    with start(["env", f"inputs.HW1_CACHE_DIR={cache}", *command, *options]) as process:
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
