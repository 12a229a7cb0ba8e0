"""Compares hw1 with ten lines of plain torch, for any networks of torchvision and timm.

    python bench/equal_models.py IMAGES torchvision:resnet50 timm:resnet18 onnx+torchvision:resnet50

For each network it makes random weights under which labels differ, imports them with `hw1 models
import` (of `onnx+…` exports them to ONNX instead), scores IMAGES with `hw1 batch`, in float32 on
the CPU, and counts the labels, or the pixels of masks, that differ from those of the plain lines.
Exits with 1 where any does. What it makes lies in build/equal.
"""

import argparse
import json
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from measure import BUILD
from PIL import Image, ImageOps
from torch import nn

from hw1.cli import main as hw1
from hw1.models._torchvision import models
from hw1.models.registry import class_axes

LEAST = 1e-26  # a probability: smaller ones have lost digits of their logarithm


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("words", nargs="+", metavar="NETWORK")
    parser.add_argument("--classes", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = BUILD.parent / "equal"
    folder.mkdir(parents=True, exist_ok=True)
    differ = False
    for word in args.words:
        torch.set_num_threads(args.threads)
        compare = (
            segment
            if word.rpartition(":")[2] in models.list_models(models.segmentation)
            else classify
        )
        found = compare(word, args, folder)
        print(json.dumps({"network": word, **found}), flush=True)
        differ |= bool(found["differ"])
    sys.exit(int(differ))


def classify(word: str, args: argparse.Namespace, folder: Path) -> dict[str, object]:
    network, transform = built(word, args.classes)
    paths = sorted(args.images.iterdir())
    some = random.Random(0).sample(paths, min(len(paths), 2 * args.classes))
    spread(network, torch.stack([transform(opened(path)) for path in some]), word)
    file = saved(network, word, folder, torch.stack([transform(opened(paths[0]))] * 2))
    table, scores = folder / f"{file.stem}.jsonl", folder / f"{file.stem}.parquet"
    job = ["batch", "classify", args.images, table, "--scores", scores, "--batch-size", 8]
    run(*job, "--model", file, *fixed(args))
    labels = {row["image_id"]: row["label"] for row in map(json.loads, table.open())}
    columns = pq.read_table(scores).to_pydict()
    ours = np.array([columns[f"p{index}"] for index in range(args.classes)]).T
    rows = dict(zip(columns["image_id"], ours, strict=True))

    differ, largest, distinct = 0, 0.0, set()
    for path in paths:
        with torch.inference_mode():
            logits = network(transform(opened(path))[None])[0]
        label = int(logits.argmax())
        distinct.add(label)
        differ += label != labels[path.name]
        row, logs = rows[path.name], logits.log_softmax(0).numpy()
        known = row > LEAST
        largest = max(largest, float(np.abs(np.log(row[known]) - logs[known]).max()))
    return {
        "images": len(paths),
        "differ": differ,
        "labels": len(distinct),
        "largest_difference_of_log_p": largest,
    }


def segment(word: str, args: argparse.Namespace, folder: Path) -> dict[str, object]:
    network, transform = built(word, args.classes)
    paths = sorted(args.images.iterdir())
    spread(network, torch.stack([transform(opened(p).resize((256, 256))) for p in paths[:4]]), word)
    file = saved(network, word, folder, None)
    masks = folder / file.stem
    run(
        "batch",
        "segment",
        args.images,
        masks,
        "--mask-format",
        "index",
        "--model",
        file,
        *fixed(args),
    )

    differ, pixels, distinct = 0, 0, set()
    for path in paths:
        image = opened(path)
        with torch.inference_mode():
            logits = network(transform(image)[None])["out"]
            logits = F.interpolate(logits, (image.height, image.width), mode="bilinear")
        mask = logits.argmax(1)[0].numpy()
        distinct |= set(np.unique(mask).tolist())
        differ += int((np.asarray(Image.open(masks / f"{path.stem}.png")) != mask).sum())
        pixels += mask.size
    return {"images": len(paths), "pixels": pixels, "differ": differ, "labels": len(distinct)}


def opened(path: Path) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def built(word, classes):
    """The network with random weights, and the library's own transform."""
    library, _, name = word.removeprefix("onnx+").partition(":")
    torch.manual_seed(0)
    if library == "timm":
        import timm
        from timm.data import create_transform, resolve_data_config

        network = timm.create_model(name, num_classes=classes)
        return network, create_transform(**resolve_data_config({}, model=network))
    options = {"weights_backbone": None} if name in models.list_models(models.segmentation) else {}
    network = models.get_model(name, num_classes=classes, weights=None, **options)
    return network, next(iter(models.get_model_weights(name))).transforms()


@torch.no_grad()
def spread(network: nn.Module, images: torch.Tensor, word: str) -> None:
    """Let a network with random weights give labels that differ, as after training.

    Batch norms get the statistics of the images; the last layers are scaled and shifted until
    each class's logit has mean 0 and deviation 1 over them.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean of what it has seen
            module.reset_running_stats()
        if isinstance(module, nn.Dropout):
            module.p = 0
    if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        network.train()(images)
    network.eval()
    state = network.state_dict()
    heads = [state[name] for name in class_axes(word.removeprefix("onnx+")) if "aux" not in name]
    weights, biases = [h for h in heads if h.dim() > 1], [h for h in heads if h.dim() == 1]
    for weight in weights:
        if not weight.any():  # as timm and torchvision begin some heads
            nn.init.normal_(weight, std=0.05)
    logits = network(images)
    logits = logits["out"].transpose(0, 1).flatten(1).T if isinstance(logits, dict) else logits
    mean, deviation = logits.mean(0), logits.std(0) + 1e-9
    for weight in weights:
        weight.div_(deviation.view(-1, *[1] * (weight.dim() - 1)))
    for number, bias in enumerate(biases):
        bias.copy_((bias - (0 if number else mean)) / deviation)


def saved(network, word, folder, example):
    """The network as hw1 scores it: imported, or as ONNX."""
    stem = word.replace(":", "_").replace("+", "_")
    if word.startswith("onnx+"):
        file = folder / f"{stem}.onnx"
        torch.onnx.export(
            network,
            (example,),
            file,
            dynamo=True,
            external_data=False,
            dynamic_shapes=({0: torch.export.Dim("n")},),
            verbose=False,
        )
        return file
    torch.save(network.state_dict(), folder / f"{stem}.pth")
    file = folder / f"{stem}.safetensors"
    run("models", "import", folder / f"{stem}.pth", file, "--arch", word, "--overwrite")
    return file


def fixed(args: argparse.Namespace) -> list[object]:
    numerics = ["--device", "cpu", "--precision", "fp32", "--threads", args.threads]
    return [*numerics, "--engine", "inline", "--overwrite"]


def run(*words: object) -> None:
    result = CliRunner().invoke(hw1, [str(word) for word in words], catch_exceptions=False)
    if result.exit_code:
        sys.exit(f"hw1 {' '.join(map(str, words))}: {result.output}")


if __name__ == "__main__":
    main()
