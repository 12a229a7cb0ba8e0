"""The plain way to label a folder: torch eager, float32, a DataLoader, a model after the other.

    python bench/plain_classify.py IMAGES OUT.csv [--weights DIR] [--members vgg16,resnet152]

What `hw1 batch classify` is measured against: the same networks, weights, crops and vote, as a
careful person writes it in an hour. Where hw1 has a default it's the same one: the weights that are
shipped, and the ensemble of the folder. It has no plan, no resume, no account of bad files.
"""

import argparse
import csv
import os
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import hw1.models._torchvision  # noqa: F401  lets torchvision import, see there
from hw1.models.checkpoints import load
from hw1.models.store import Store

from torchvision import transforms  # isort: skip


class Photos(Dataset):
    def __init__(self, paths, transform):
        self.paths = paths
        self.transform = transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return self.transform(Image.open(self.paths[index]).convert("RGB"))


class Shrink:
    """Makes an image that is larger than ``sides``, (height, width), as small as that."""

    def __init__(self, sides):
        self.sides = sides
        self.resize = transforms.Resize(sides)

    def __call__(self, image):
        height, width = self.sides
        return self.resize(image) if image.height > height or image.width > width else image


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--members", type=lambda text: text.split(","))
    parser.add_argument("--batch-size", type=int, default=64)
    args = parser.parse_args()

    device = "cuda" if torch.cuda.is_available() else "cpu"
    paths = sorted(args.images.iterdir(), key=os.fsencode)
    store = Store.at(args.weights)
    ensemble = store.ensemble(args.members)

    total = torch.zeros(len(paths), 50)
    for member, weight in zip(ensemble.members, ensemble.vote_weights, strict=True):
        checkpoint = store.checkpoint(member)
        preprocessing = checkpoint.preprocessing
        transform = transforms.Compose(
            [
                *([Shrink(preprocessing.shrink)] if preprocessing.shrink else []),
                transforms.Resize(preprocessing.sides),
                transforms.ToTensor(),
                transforms.Normalize(preprocessing.mean, preprocessing.std),
            ]
        )
        loader = DataLoader(
            Photos(paths, transform), batch_size=args.batch_size, num_workers=os.cpu_count()
        )
        network = load(checkpoint).to(device).eval()
        outputs = []
        with torch.no_grad():
            for images in loader:
                outputs.append(network(images.to(device)).cpu())
        logits = torch.cat(outputs)
        total += weight * (logits if ensemble.vote == "logits" else logits.softmax(dim=1))

    with args.out.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image_id", "label"])
        writer.writerows(zip([path.name for path in paths], total.argmax(1).tolist(), strict=True))


if __name__ == "__main__":
    main()
