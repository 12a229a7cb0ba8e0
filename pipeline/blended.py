"""Segments an image with any network, as its library's preset does it: whole, or in blended tiles.

How far such a network sees isn't known (DeepLabV3 pools over the whole image), so tiles can't give
what the whole image would, as `tiles` do for FCN8s. An image is scored whole up to
TILE × TILE pixels after its resize. Above that, tiles of SIDE × SIDE overlap by OVERLAP, and where
they do their probabilities are averaged, each tile's counting less towards its edge: an
approximation of what the network would say of the whole, without seams.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..core.preprocessing import Preprocessing, Sides, normalise
from ..core.records import Float32, UInt8
from .crops import resize, resized_sides
from .tiles import TILE, Axis, Span, decide, seen, spans
from .views import ONE_VIEW, View

SIDE: Final = 1024
OVERLAP: Final = 256

_MOST_PIXELS: Final = 2**26
"""Of a resized image: a strip of 1 × 60,000 pixels whose shorter side becomes 520 is shrunk."""
_AT_ONCE: Final = 2**26  # enlarged logits, 256 MB
_Scores = Callable[[UInt8, Sides], Tensor]


def segment_blended(
    network: Callable[[Tensor], Tensor],
    image: UInt8,
    preprocessing: Preprocessing,
    device: torch.device | str = "cpu",
    *,
    views: Sequence[View] = ONE_VIEW,
) -> UInt8:
    """Classes, uint8 (H, W), of an RGB image, uint8 (H, W, 3), of any size from 1 × 1.

    ``network`` gets normalised float32 (1, 3, h, w) on ``device``, of the resized image's own size,
    and gives logits (1, classes, h', w') of any size; these are enlarged (bilinear) to the image's
    before the largest is chosen. Of several ``views`` the mean of their probabilities decides. In
    tiles, each view is one of the tile.
    """

    def scores(pixels: UInt8, sides: Sides) -> Tensor:
        logits = [
            _logits(network, pixels, _times(sides, view.fifths), view, preprocessing, device)
            for view in views
        ]
        if len(logits) == 1:
            return logits[0]
        size = logits[0].shape[2:]
        chances = [F.interpolate(each.softmax(1), size, mode="bilinear") for each in logits]
        return torch.stack(chances).mean(0)

    sides = _scaled_sides(image, preprocessing)
    with torch.inference_mode():
        if sides[0] * sides[1] <= TILE * TILE:
            return _largest(scores(image, sides), (image.shape[0], image.shape[1]))
        scaled = _resized(image, sides, preprocessing)
        chances = scores if len(views) > 1 else lambda part, size: scores(part, size).softmax(1)
        return _in_tiles(chances, scaled, (image.shape[0], image.shape[1]))


def _scaled_sides(image: UInt8, preprocessing: Preprocessing) -> Sides:
    """Height and width at which the network sees the image."""
    height, width = image.shape[:2]
    if preprocessing.resize is not None:
        sides = resized_sides(Image.fromarray(image), preprocessing.resize)
    else:
        sides = _rounded((height, width), preprocessing.scale)
    if sides[0] * sides[1] > _MOST_PIXELS and sides[0] * sides[1] > height * width:
        most = max(_MOST_PIXELS, height * width)
        sides = _rounded(sides, (most / (sides[0] * sides[1])) ** 0.5)
    return sides


def _times(sides: Sides, fifths: int) -> Sides:
    return sides if fifths == 5 else _rounded(sides, fifths / 5)


def _rounded(sides: Sides, scale: float) -> Sides:
    return max(1, round(sides[0] * scale)), max(1, round(sides[1] * scale))


def _resized(image: UInt8, sides: Sides, preprocessing: Preprocessing) -> UInt8:
    if image.shape[:2] == sides:
        return image
    return np.asarray(resize(Image.fromarray(image), sides, preprocessing.interpolation))


def _logits(
    network: Callable[[Tensor], Tensor],
    image: UInt8,
    sides: Sides,
    view: View,
    preprocessing: Preprocessing,
    device: torch.device | str,
) -> Tensor:
    """The network's logits, float32 (1, classes, h, w), of a view of the image."""
    pixels = torch.from_numpy(_resized(image, sides, preprocessing).copy())
    inputs = normalise(pixels.to(device).permute(2, 0, 1).unsqueeze(0), preprocessing)
    return seen(network, inputs, view).float()


def _largest(logits: Tensor, sides: Sides) -> UInt8:
    """The class of each pixel's largest logit, uint8, some classes enlarged at a time."""
    logits = logits.contiguous()
    step = max(1, _AT_ONCE // (sides[0] * sides[1]))
    best: Tensor | None = None
    found = torch.zeros(sides, dtype=torch.uint8, device=logits.device)
    for first in range(0, logits.shape[1], step):
        part = logits[:, first : first + step]
        if part.shape[2:] != sides:
            part = F.interpolate(part, sides, mode="bilinear", align_corners=False)
        values, classes = part[0].amax(0), part[0].argmax(0)
        better = torch.ones_like(found, dtype=torch.bool) if best is None else values > best
        best = values if best is None else torch.maximum(best, values)
        found = torch.where(better, (classes + first).to(torch.uint8), found)
    decided: UInt8 = found.cpu().numpy()
    return decided


def _in_tiles(scores: _Scores, image: UInt8, outputs: Sides) -> UInt8:
    """Classes of an image from its tiles' scores, a band of tiles in memory at a time."""
    height, width = image.shape[:2]
    downs = list(spans(height, SIDE, OVERLAP // 2, 1))
    acrosses = list(spans(width, SIDE, OVERLAP // 2, 1))
    tall, wide = _shares(downs, height), _shares(acrosses, width)
    rows, columns = Axis(outputs[0], height), Axis(outputs[1], width)
    every_column = columns.of_core(Span(0, width, 0, width))
    classes = np.empty(outputs, np.uint8)
    band, start, done = None, 0, 0
    for index, down in enumerate(downs):
        above, start = start, max(down.start - 1, 0)  # a row more: outputs mix two rows
        earlier, band = band, None
        for across, share in zip(acrosses, wide, strict=True):
            tile = image[down.start : down.end, across.start : across.end]
            found = scores(tile, (tile.shape[0], tile.shape[1]))
            if found.shape[2:] != tile.shape[:2]:
                found = F.interpolate(found, tile.shape[:2], mode="bilinear")
            if band is None:
                band = torch.zeros(down.end - start, width, found.shape[1], device=found.device)
                if earlier is not None:
                    band[: len(earlier) - (start - above)] = earlier[start - above :]
            weight = torch.outer(torch.from_numpy(tall[index]), torch.from_numpy(share))
            part = found[0].permute(1, 2, 0) * weight.unsqueeze(2).to(found.device)
            band[down.start - start :, across.start : across.end] += part
        assert band is not None
        final = downs[index + 1].start if index + 1 < len(downs) else height
        stop = final if final == height else final - 1
        block = rows.of_core(Span(start, down.end, done, stop))
        classes[block.outputs] = decide(band, block, every_column)
        done = stop
    return classes


def _shares(tiles: Sequence[Span], length: int) -> list[Float32]:
    """Each tile's share of the pixels that it covers, along an axis: they add up to 1."""
    weights = []
    for tile in tiles:
        at = np.arange(tile.end - tile.start) + 0.5
        rising = at if tile.start else np.full_like(at, OVERLAP)
        falling = at[::-1] if tile.end < length else np.full_like(at, OVERLAP)
        weights.append(np.minimum(np.minimum(rising, falling), OVERLAP))
    total = np.zeros(length)
    for tile, weight in zip(tiles, weights, strict=True):
        total[tile.start : tile.end] += weight
    return [
        (weight / total[tile.start : tile.end]).astype(np.float32)
        for tile, weight in zip(tiles, weights, strict=True)
    ]
