"""Measures whether an image's place in its batch matters: the same images, seven places on.

    python bench/places.py IMAGES [MEMBER] [--precisions fp32,bf16,int8]

Scores the first images of a folder, and again without the first seven of them, so that each of the
others stands in another place, beside others, and some in another batch. Counts the labels and the
probabilities that differ, in each precision, on the CPU. What it makes lies in build/places.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from click.testing import CliRunner
from measure import BUILD

from hw1.cli import main as hw1
from hw1.pipeline.find import find

MOVED = 7
"""Places: no multiple of a batch's size, nor of the widths that kernels work in."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("member", nargs="?", default="vgg16")
    parser.add_argument("--precisions", default="fp32,bf16,int8")
    parser.add_argument("--count", type=int, default=448)
    parser.add_argument("--batch-size", type=int, default=64)
    args = parser.parse_args()
    folder = BUILD.parent / "places"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = [image.image_id for image in find(str(args.images)).images][: args.count]
    for precision in args.precisions.split(","):
        model = ["--members", args.member, "--precision", precision]
        if precision == "int8":
            small = folder / "int8.safetensors"
            run("models", "quantise", args.member, small, "--images", args.images)
            model = ["--model", small]
        model += ["--batch-size", args.batch_size]
        both = [scored(args.images, names[first:], folder, model) for first in (0, MOVED)]
        found = compare(both[0][MOVED:], both[1])
        print(json.dumps({"member": args.member, "precision": precision, **found}), flush=True)


def scored(images: Path, names: list[str], folder: Path, model: list[Any]) -> Any:
    """The probabilities of the images, (n, classes)."""
    listed, scores = images / ".places.txt", folder / "scores.parquet"
    listed.write_text("\n".join(names))
    words = ["--engine", "inline", "--device", "cpu", "--scores", scores, "--overwrite"]
    try:
        run("batch", "classify", f"@{listed}", folder / "out.csv", *model, *words)
    finally:
        listed.unlink()
    table = pq.read_table(scores)
    columns = [table[name].to_numpy() for name in table.column_names if name != "image_id"]
    return np.stack(columns, 1)


def compare(before: Any, after: Any) -> dict[str, Any]:
    """How many labels and rows of probabilities differ, and by how much at most."""
    return {
        "images": len(before),
        "labels that differ": int((before.argmax(1) != after.argmax(1)).sum()),
        "rows that differ": int((before != after).any(1).sum()),
        "by at most": float(np.abs(before - after).max()),
    }


def run(*words: object) -> None:
    done = CliRunner().invoke(hw1, [str(word) for word in words], catch_exceptions=False)
    if done.exit_code:
        sys.exit(done.output)


if __name__ == "__main__":
    main()
