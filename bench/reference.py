"""Makes random checkpoints of the reference's eight classifiers, in the reference's format.

    python bench/reference.py DIR [MEMBER …]

The format is torch's old one (no zip), ``{"state_dict": …}`` without metadata, under the
reference's file names. The same call gives the same weights.

Weights that are merely random give every image nearly the same logits, and so the same label. Hence
batch norms get the statistics of crops of the example photos, and the last layer is shifted and
scaled until each class's logit has mean 0 and deviation 1 over these crops.
"""

import sys
from pathlib import Path

import inputs
import numpy as np
import torch
from measure import BUILD
from PIL import Image
from torch import nn

from hw1.models.members import CLASSIFIERS, MEMBERS, find_member
from hw1.models.registry import build

CROPS, SIDE = 64, 40
REFERENCES = tuple(name for name in CLASSIFIERS if MEMBERS[name].reference_file)


def main(folder: Path, members: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    paths = inputs.crops(BUILD, inputs.EXAMPLES / "photos", CROPS, SIDE, ".png").iterdir()
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(paths)])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    for member in members:
        path = folder / find_member(member, REFERENCES).reference_file
        torch.manual_seed(CLASSIFIERS.index(member))
        state = spread(build(member), images).state_dict()
        torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=False)
        print(path)


@torch.no_grad()
def spread(network: nn.Module, images: torch.Tensor) -> nn.Module:
    """Let a network with random weights give images of float (N, 3, H, W) labels that differ."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean of what it has seen
    network.train()(images)
    logits = network.eval()(images)
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    last.bias.copy_((last.bias - logits.mean(0)) / logits.std(0))
    last.weight /= logits.std(0)[:, None]
    return network


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(sys.argv[2:]) or REFERENCES)
