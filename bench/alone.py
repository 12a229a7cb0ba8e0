"""Measures a job's flow against its model alone and its decoding alone: real models, any device.

python bench/alone.py classify|segment IMAGES OUT --weights DIR [--members A,B] [--batch-size N]
    [--shard-size N] [--seconds S]    prints JSON

- decode: images that all cores read and decode in a second, when that is all they do;
- model: images that the models score in a second, from memory, again and again the first shard;
- flow: images a second of the whole job through Ray, from the first commit on.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from flow import Times

from hw1.core.numerics import cores
from hw1.core.records import Shard, Work
from hw1.core.spec import ClassifySpec, SegmentSpec
from hw1.execution.inline import Inline
from hw1.jobs.classify import ClassifyJob
from hw1.jobs.job import Job
from hw1.jobs.plan import shards
from hw1.jobs.profile import choose_profile
from hw1.jobs.run import run_job
from hw1.jobs.segment import SegmentJob
from hw1.pipeline.find import find


def decoded(piece: Shard, work: Work) -> int:
    """Decode a shard, in as many pieces as memory asks for; how many images that are."""
    count, at = 0, piece.first
    while at < piece.stop:
        found = work.decode(piece.piece(at, piece.stop))
        count += len(found.positions)
        at = found.piece.stop
    return count


def decode_alone(work: Work, pieces: Sequence[Shard]) -> float:
    """Images a second."""
    decode = partial(decoded, work=work)
    # Not forked: a GPU that this process has touched can't be used in a child of it.
    with ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn")) as pool:
        list(pool.map(decode, pieces[: cores()]))  # each process has its imports
        began = time.monotonic()
        count = sum(pool.map(decode, pieces))
        return count / (time.monotonic() - began)


def model_alone(work: Work, piece: Shard, seconds: float) -> float:
    """Images a second, timed for so long after a pass to warm up."""
    predict = work.load()
    ready = work.decode(piece)
    predict(ready)
    began = time.monotonic()
    count = 0
    while count == 0 or time.monotonic() - began < seconds:
        predict(ready)
        count += len(ready.positions)
    return count / (time.monotonic() - began)


def measure(job: Job, seconds: float) -> dict[str, float]:
    """The three rates of a job, and the seconds that the whole took."""
    found = find(job.spec.source)
    profile = choose_profile(job, Inline(), recorded=None)
    size = job.shard_size(profile.batch_size)
    first = next(shards(found.images, size, profile.batch_size))
    # Several for each core, where shards are few: all of them decode to the end.
    part = max(1, min(size, len(found.images) // (8 * cores())))
    with tempfile.TemporaryDirectory() as nowhere:
        work = job.work(found.root, Path(nowhere), profile)
        rates = {"decode": decode_alone(work, list(shards(found.images, part, 1)))}
        rates["model"] = model_alone(work, first, seconds)
    times = Times()
    began = time.monotonic()
    run_job(job, times)
    return {**rates, "flow": times.steady(), "whole": time.monotonic() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=["classify", "segment"])
    parser.add_argument("images")
    parser.add_argument("output", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--members", type=lambda text: tuple(text.split(",")))
    parser.add_argument("--batch-size", type=int, help="of classify")
    parser.add_argument("--shard-size", type=int)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    given = {
        "source": args.images,
        "output": args.output,
        "weights": args.weights,
        "shard_size": args.shard_size,
    }
    job: Job
    if args.kind == "classify":
        spec = ClassifySpec(**given, members=args.members, batch_size=args.batch_size)
        job = ClassifyJob.open(spec)
    else:
        job = SegmentJob.open(SegmentSpec(**given))
    print(json.dumps(measure(job, args.seconds)))


if __name__ == "__main__":
    main()
