"""The plain way to mask a folder of tiles: torch eager, float32, a DataLoader.

    python bench/plain_segment.py TILES MASKS/ --weights DIR

What `hw1 batch segment` is measured against: the same network, weights, scale and colours, as a
careful person writes it in an hour. The tiles have to be of one size, and that size, scaled, a
multiple of 32.
"""

import argparse
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import hw1.models._torchvision  # noqa: F401  lets torchvision import, see there
from hw1.models.checkpoints import load
from hw1.models.store import Store
from hw1.pipeline.masks import COLOURS

from torchvision import transforms  # isort: skip


class Tiles(Dataset):
    def __init__(self, paths, transform):
        self.paths = paths
        self.transform = transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tiles", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--model", default="fcn8s")
    parser.add_argument("--batch-size", type=int, default=4)
    args = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    paths = sorted(args.tiles.iterdir())
    args.masks.mkdir(parents=True, exist_ok=True)
    checkpoint = Store(args.weights).checkpoint(args.model)
    preprocessing = checkpoint.preprocessing
    width, height = Image.open(paths[0]).size
    scaled = [round(side * preprocessing.scale) for side in (height, width)]
    transform = transforms.Compose(
        [
            transforms.Resize(scaled),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )
    loader = DataLoader(
        Tiles(paths, transform), batch_size=args.batch_size, num_workers=os.cpu_count()
    )
    network = load(checkpoint).to(device).eval()
    done = 0
    with torch.no_grad():
        for images in loader:
            means = F.avg_pool2d(network(images.to(device)), preprocessing.cell)
            logits = F.interpolate(means, scale_factor=preprocessing.cell, mode="bilinear")
            logits = F.interpolate(logits, (height, width), mode="bilinear")
            for classes in logits.argmax(1).cpu().numpy():
                mask = Image.fromarray(COLOURS[classes])
                mask.save(args.masks / f"{paths[done].stem}.png")
                done += 1


if __name__ == "__main__":
    main()
