"""Segments an image of any size: scaled, padded, in tiles where it is large, enlarged, decided.

Why tiles give what the whole image would. A logit of fcn8s depends on the pixels of its own
32 × 32 cell and of those up to 154 pixels outside it; of fcn32s, up to 186:

    vgg16's features   convolutions 3 × 3, each widening by its stride: 2·1 + 2·2 + 3·4 + 3·8 +
                       3·16 = 90; pools 2 × 2 of aligned cells widen nothing.             90
    after them         convolutions 3 × 3 at stride 32: fcn8s has two, fcn32s three.  64, 96
    upward             transposed convolutions whose kernel is their stride: nothing.      0

(The branches of fcn8s at strides 8 and 16 see less.) Where logits are enlarged, or made even over
cells of up to 32, a core's last ones are mixed with the first beyond the core, and these are of the
next cell: 32 pixels more, 186 and 218. So a halo of HALO = 224 pixels, the next multiple of 32,
keeps the tile's edges out of what is made of its core. Tiles begin at multiples of 32, where the
pools of the whole image begin their cells. At the image's own edge a tile ends with it, since the
zeros that convolutions pad with there are part of the result.

Of several views (see ``views``) each is scaled from the image itself, since what was scaled twice
is blurred. Positions are the largest view's: there tiles begin where each view has whole cells, and
the halo is as much wider as the smallest one sees farther.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from fractions import Fraction
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..core.preprocessing import Preprocessing, Sides, normalise
from ..core.records import Float32, UInt8
from .views import ONE_VIEW, View

STRIDE: Final = 32
HALO: Final = 224
TILE: Final = 2048
"""The longest side of a tile, and TILE × TILE the most pixels that are scored in one piece.

One limit for both, so that a tile needs no more memory than the largest image scored whole.
"""

_ROWS: Final = 256
_Network = Callable[[Tensor], Tensor]


def segment_image(
    network: _Network,
    image: UInt8,
    preprocessing: Preprocessing,
    device: torch.device | str = "cpu",
    *,
    views: Sequence[View] = ONE_VIEW,
    tile: int = TILE,
    halo: int = HALO,
) -> UInt8:
    """Classes, uint8 (H, W), of an RGB image, uint8 (H, W, 3), of any size from 1 × 1.

    ``network`` gets float32 (1, 3, h, w) on ``device``, channels last, normalised, h and w
    multiples of 32, and gives logits (1, classes, h, w) of any float type. The image is scaled
    by ``preprocessing.scale`` (bilinear, antialiased, in 8 bits), mirrored at its right and lower
    edge up to multiples of 32, and scored whole, or in tiles where that is more than
    tile × tile pixels, always: so the result does not depend on the memory there is. The logits
    are enlarged to the image's size (bilinear) before the largest is chosen. Beside the image,
    its scaled copy and the classes, memory holds one tile.

    Of several ``views``, the largest first, with as many scaled copies, the mean of their
    probabilities decides.
    """
    (mask,) = segment_images(
        network, [image], preprocessing, device, views=views, tile=tile, halo=halo
    )
    return mask


def segment_images(
    network: _Network,
    images: Sequence[UInt8],
    preprocessing: Preprocessing,
    device: torch.device | str = "cpu",
    *,
    views: Sequence[View] = ONE_VIEW,
    tile: int = TILE,
    halo: int = HALO,
    slots: Sequence[int] = (0,),
    batch: int = 1,
) -> list[UInt8]:
    """Classes of images of one size, as `segment_image` has them, in the same forward passes.

    Each pass is of ``batch`` inputs: those of the images at their ``slots``, blanks elsewhere, so
    that an image's result depends on no other.
    """
    height, width = images[0].shape[:2]
    largest, smallest = (end(view.fifths for view in views) for end in (max, min))
    grid = STRIDE * largest // math.gcd(*(view.fifths for view in views))
    halo = -(-halo * largest // smallest)
    copies = {
        n: [_scaled(image, preprocessing.scale * n / 5) for image in images]
        for n in {v.fifths for v in views}
    }
    scaled = copies[largest][0]
    padded = [-(-length // grid) * grid for length in scaled.shape[:2]]
    longest = max(padded) if padded[0] * padded[1] <= tile * tile else tile
    rows, columns = Axis(height, scaled.shape[0]), Axis(width, scaled.shape[1])
    classes = [np.empty((height, width), np.uint8) for _ in images]
    with torch.inference_mode():
        for down in spans(padded[0], longest, halo, grid):
            for across in spans(padded[1], longest, halo, grid):
                scores = []
                for view in views:
                    share = Fraction(view.fifths, largest)
                    place = down.times(share), across.times(share)
                    windows = [_window(copy, *place) for copy in copies[view.fifths]]
                    inputs = _at_slots(windows, slots, batch)
                    pixels = torch.from_numpy(inputs).to(device).permute(0, 3, 1, 2)
                    logits = seen(network, normalise(pixels, preprocessing), view)
                    scores.append(evened(logits, preprocessing.cell))
                block = rows.of_core(down), columns.of_core(across)
                means = _mean(scores)
                for mask, slot in zip(classes, slots, strict=True):
                    mask[block[0].outputs, block[1].outputs] = decide(means[slot], *block)
    return classes


def fits_batch(
    sides: Sides, preprocessing: Preprocessing, views: Sequence[View], batch: int
) -> bool:
    """Whether so many images of a size are at most the pixels of one tile: no more memory."""
    scale = preprocessing.scale * max(view.fifths for view in views) / 5
    rows, columns = (-(-round(side * scale) // STRIDE) * STRIDE for side in sides)
    return batch * rows * columns <= TILE * TILE


def _at_slots(windows: Sequence[UInt8], slots: Sequence[int], batch: int) -> UInt8:
    """Windows (h, w, 3) as (batch, h, w, 3), blank where there is none."""
    if batch == 1:
        return windows[0][None]
    inputs = np.zeros((batch, *windows[0].shape), np.uint8)
    inputs[list(slots)] = windows
    return inputs


def seen(network: _Network, inputs: Tensor, view: View) -> Tensor:
    """The network's logits, (1, classes, h, w), of a view's inputs, as if it weren't mirrored."""
    if not view.mirrored:
        return network(inputs)
    return network(inputs.flip(3)).flip(3)


def evened(logits: Tensor, cell: int) -> Tensor:
    """Logits (N, C, h, w) as the means of cells of cell × cell, enlarged again (bilinear).

    h and w are multiples of ``cell``; of 1, the logits are what is returned.
    """
    if cell == 1:
        return logits
    means = F.avg_pool2d(logits.float(), cell)
    return F.interpolate(means, scale_factor=float(cell), mode="bilinear")


def _mean(logits: Sequence[Tensor]) -> Tensor:
    """Of one view its logits; of several the mean of their probabilities, (N, h, w, classes).

    float32, at the first one's size, which is the largest.
    """
    if len(logits) == 1:
        return logits[0].float().permute(0, 2, 3, 1)
    size = logits[0].shape[2:]
    total = torch.zeros_like(logits[0], dtype=torch.float32)
    for each in logits:
        total += F.interpolate(each.float().softmax(1), size, mode="bilinear")
    return (total / len(logits)).permute(0, 2, 3, 1)


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one axis: pixels ``start`` to ``end`` - 1 are scored, the core's are kept."""

    start: int
    end: int
    core_start: int
    core_end: int

    def times(self, share: Fraction) -> "Span":
        """The same part of a view whose sides are ``share`` as long: whole pixels of it."""
        return Span(*(int(at * share) for at in astuple(self)))


def spans(length: int, longest: int, halo: int, grid: int = STRIDE) -> Iterator[Span]:
    """Tiles, all of one length, whose cores cover 0 to ``length`` - 1, each pixel once.

    ``length`` is a multiple of ``grid``, as is everything yielded. As few tiles as ``longest``
    allows, and none longer than that many need be.
    """
    if length <= longest:
        yield Span(0, length, 0, length)
        return
    margin = -(-halo // grid) * grid
    core = longest // grid * grid - 2 * margin
    if core < grid:
        raise ValueError(f"a tile of {longest} pixels has no core between halos of {halo}")
    count = -(-(length - 2 * margin) // core)
    size = -(-(length + 2 * margin * (count - 1)) // (count * grid)) * grid
    done = 0
    while done < length:
        start = min(max(done - margin, 0), length - size)
        end = start + size
        core_end = length if end == length else end - margin
        yield Span(start, end, done, core_end)
        done = core_end


def _scaled(image: UInt8, scale: float) -> UInt8:
    """The image enlarged (shrunk) by ``scale``, on the CPU: in 8 bits torch can only there."""
    size = [max(1, round(length * scale)) for length in image.shape[:2]]
    if size == list(image.shape[:2]):
        return image
    pixels = torch.from_numpy(image if image.flags.writeable else image.copy())
    planes = pixels.permute(2, 0, 1).unsqueeze(0)
    planes = F.interpolate(planes, size, mode="bilinear", antialias=True)
    scaled: UInt8 = planes[0].permute(1, 2, 0).numpy()
    return scaled


def _window(image: UInt8, down: Span, across: Span) -> UInt8:
    """A tile of the image, a copy; what lies beyond the image's edge mirrors what is before it.

    More land of the same kind: black would look like the class unknown, and be seen far inside.
    """
    window = image[down.start : down.end, across.start : across.end]
    below = down.end - down.start - window.shape[0]
    right = across.end - across.start - window.shape[1]
    return np.pad(window, ((0, below), (0, right), (0, 0)), mode="symmetric")


@dataclass(frozen=True, slots=True)
class Block:
    """How to make some of an axis's outputs from a tile's logits.

    Each output is logits ``low`` and ``low + 1`` (at most ``last``), mixed by ``weight``. These
    are numpy arrays, int64 and float32; None for ``weight`` where outputs are logits.
    """

    outputs: slice
    low: NDArray[np.int64]
    last: int
    weight: Float32 | None

    def rows(self, first: int, count: int) -> "Block":
        """The outputs ``first`` to ``first + count - 1`` of this block."""
        part = slice(first, first + count)
        weight = None if self.weight is None else self.weight[part]
        return Block(self.outputs, self.low[part], self.last, weight)

    def mix(self, logits: Tensor, dim: int) -> Tensor:
        """The outputs, from logits (h, w, classes), along one of their first two axes."""
        if self.weight is None:
            return logits.narrow(dim, int(self.low[0]), len(self.low))
        low = torch.from_numpy(self.low).to(logits.device)
        weight = torch.from_numpy(self.weight).to(logits.device)
        weight = weight.view(-1, 1, 1) if dim == 0 else weight.view(-1, 1)
        high = (low + 1).clamp_(max=self.last)
        return torch.lerp(logits.index_select(dim, low), logits.index_select(dim, high), weight)


class Axis:
    """Which logits make each output of an axis when ``size`` logits become ``outputs``.

    Output i lies at logit (i + 0.5) · size / outputs - 0.5, at least 0: as F.interpolate has it
    with align_corners=False.
    """

    def __init__(self, outputs: int, size: int) -> None:
        at = np.maximum((np.arange(outputs) + 0.5) * (size / outputs) - 0.5, 0)
        self.low = np.minimum(at.astype(np.int64), size - 1)
        self.weight = None if outputs == size else (at - self.low).astype(np.float32)
        self.last = size - 1

    def of_core(self, span: Span) -> Block:
        """The outputs whose lower logit lies in a tile's core; positions are the tile's."""
        first, stop = np.searchsorted(self.low, (span.core_start, span.core_end))
        part = slice(int(first), int(stop))
        weight = None if self.weight is None else self.weight[part]
        return Block(part, self.low[part] - span.start, self.last - span.start, weight)


def decide(logits: Tensor, rows: Block, columns: Block) -> UInt8:
    """The class of the largest logit of each output, uint8, from a tile's (h, w, classes).

    Some rows at a time, since enlarged logits take 28 bytes a pixel. With the classes side by
    side in memory the CPU mixes and compares them several times faster than plane by plane.
    """
    count = len(rows.low)
    decided = np.empty((count, len(columns.low)), np.uint8)
    logits = logits.contiguous()
    for first in range(0, count, _ROWS):
        enlarged = columns.mix(rows.rows(first, _ROWS).mix(logits, 0), 1)
        decided[first : first + _ROWS] = enlarged.argmax(2).to(torch.uint8).cpu().numpy()
    return decided
