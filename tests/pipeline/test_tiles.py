from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hw1.core.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from hw1.core.records import UInt8
from hw1.models.registry import build
from hw1.pipeline.tiles import HALO, STRIDE, TILE, segment_image, spans


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other take very long where other programs hold the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def distant(tap: int) -> nn.Sequential:
    """fcn32s's layers, one channel wide; each convolution looks at one of its corners only.

    So each logit is made of the farthest pixels that fcn32s would see in that direction.
    """
    layers: list[nn.Module] = []
    for convolutions in (2, 2, 3, 3, 3):
        layers += [nn.Conv2d(1 if layers else 3, 1, 3, padding=1, bias=False)]
        layers += [nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(convolutions - 1)]
        layers += [nn.MaxPool2d(2)]
    layers += [nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(3)]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            kernel = torch.zeros(1, layer.in_channels, 3, 3)
            kernel[:, :, tap, tap] = 1
            layer.weight = nn.Parameter(kernel)
    nearest = nn.Conv2d(1, 7, 1)  # which of seven levels is nearest
    levels = torch.linspace(-3, 6, 7)
    nearest.weight = nn.Parameter(levels.view(7, 1, 1, 1))
    nearest.bias = nn.Parameter(-levels.square() / 2)
    return nn.Sequential(*layers, nn.Upsample(scale_factor=32), nearest).eval()


class Seen:
    """A network that notes what it was given."""

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        self.network = network
        self.images: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.images.append(images)
        return self.network(images)


def pixelwise(images: Tensor) -> Tensor:
    """Logits that depend on nothing but the pixel: seven mixtures of its channels."""
    mix = torch.linspace(-1, 1, 21).reshape(7, 3, 1, 1).sin()
    return F.conv2d(images, mix)


def random_image(height: int, width: int) -> UInt8:
    """Large blobs, so that logits far down the network differ from place to place."""
    coarse = np.random.default_rng(0).integers(
        0, 256, (height // 16 + 1, width // 16 + 1, 3), np.uint8
    )
    return coarse.repeat(16, 0).repeat(16, 1)[:height, :width].copy()


def plain(
    network: Callable[[Tensor], Tensor], image: UInt8, preprocessing: Preprocessing
) -> Tensor:
    """The enlarged logits, (7, H, W), in one piece."""
    height, width = image.shape[:2]
    planes = torch.from_numpy(image).permute(2, 0, 1)[None]
    size = [max(1, round(length * preprocessing.scale)) for length in (height, width)]
    planes = F.interpolate(planes, size, mode="bilinear", antialias=True)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    below, right = (-length % 32 for length in size)
    mirrored = np.pad(planes.numpy(), ((0, 0), (0, 0), (0, below), (0, right)), mode="symmetric")
    with torch.inference_mode():
        logits = network((torch.from_numpy(mirrored).float() / 255 - mean) / std)
    logits = logits[:, :, : size[0], : size[1]]
    return F.interpolate(logits, (height, width), mode="bilinear")[0]


def assert_decides(classes: UInt8, logits: Tensor) -> None:
    """The classes are those of the largest logits, but where two are as good as equal."""
    top = logits.topk(2, 0).values
    clear = ((top[0] - top[1]) > 1e-4 * logits.abs().max()).numpy()
    assert clear.mean() > 0.9
    assert (classes == logits.argmax(0).numpy())[clear].all()


@pytest.mark.parametrize("scale", [1.0, 0.625, 0.37, 1.5])
@pytest.mark.parametrize("shape", [(64, 96), (37, 81), (1, 1), (3, 200), (33, 1)])
def test_it_does_what_plain_torch_does(shape: tuple[int, int], scale: float) -> None:
    image = random_image(*shape)
    preprocessing = Preprocessing(None, scale, IMAGENET_MEAN, IMAGENET_STD)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 7, 1)).eval()
    classes = segment_image(network, image, preprocessing)
    assert classes.shape == shape
    assert classes.dtype == np.uint8
    assert_decides(classes, plain(network, image, preprocessing))


@pytest.mark.parametrize("cell", [8, 32])
def test_logits_even_over_cells(cell: int) -> None:
    """What FCN8s's last layer fills in blocks: nothing of a block's own pattern is left."""
    random = torch.Generator().manual_seed(0)
    values = torch.randn(1, 7, 128 // cell, 96 // cell, generator=random)
    blocks = values.repeat_interleave(cell, 2).repeat_interleave(cell, 3)
    pattern = torch.randn(cell, cell, generator=random)
    blocks = blocks + (pattern - pattern.mean()).repeat(128 // cell, 96 // cell)
    expected = F.interpolate(values, (128, 96), mode="bilinear")
    preprocessing = Preprocessing(None, cell=cell)
    image = random_image(128, 96)
    assert_decides(segment_image(lambda _: blocks, image, preprocessing), expected[0])
    different = segment_image(lambda _: blocks, image, Preprocessing(None))
    assert (different != expected[0].argmax(0).numpy()).mean() > 0.05  # so the test can tell


@settings(deadline=None, max_examples=20)
@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    tile=st.sampled_from([96, 128, 160]),
    scale=st.sampled_from([1.0, 0.5, 1.3]),
)
def test_tiles_of_any_size_cover_each_pixel_once(
    height: int, width: int, tile: int, scale: float
) -> None:
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    preprocessing = Preprocessing(None, scale)
    whole = segment_image(pixelwise, image, preprocessing, tile=1024)
    assert np.array_equal(segment_image(pixelwise, image, preprocessing, tile=tile, halo=32), whole)
    if scale == 1:
        logits = pixelwise(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
        assert np.array_equal(whole, logits[0].argmax(0).numpy())


@pytest.mark.parametrize("tap", [0, 2])
@pytest.mark.parametrize(
    ("shape", "scale", "cell"), [((490, 570), 1.0, 1), ((687, 590), 0.83, 1), ((690, 600), 0.8, 32)]
)
def test_the_halo_hides_the_tiles_edges(
    shape: tuple[int, int], scale: float, cell: int, tap: int
) -> None:
    network = distant(tap)
    image = random_image(*shape)
    preprocessing = Preprocessing(None, scale, IMAGENET_MEAN, IMAGENET_STD, cell)
    whole = segment_image(network, image, preprocessing)
    assert len(np.unique(whole)) > 2
    assert np.array_equal(segment_image(network, image, preprocessing, tile=512), whole)
    narrow = segment_image(network, image, preprocessing, tile=512, halo=160)
    assert (narrow != whole).mean() > 1e-3  # so the test can tell


@pytest.mark.parametrize("name", ["fcn8s", "fcn32s"])
def test_the_halo_is_as_wide_as_the_networks_see(name: str) -> None:
    reach, stride = 0, 1
    for layer in build(name, device="meta").modules():
        if isinstance(layer, nn.Conv2d):
            reach += layer.kernel_size[0] // 2 * stride
        elif isinstance(layer, nn.MaxPool2d):
            stride *= 2
        elif isinstance(layer, nn.ConvTranspose2d):
            assert layer.kernel_size == layer.stride
    assert stride == STRIDE
    assert reach == {"fcn8s": 154, "fcn32s": 186}[name]
    assert reach + STRIDE <= HALO


def test_fcn8s_in_tiles_gives_the_same_classes() -> None:
    torch.manual_seed(0)
    network = build("fcn8s", device="meta").to_empty(device="cpu").eval()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    network = network.to(memory_format=torch.channels_last)
    image = random_image(350, 440)
    seen = Seen(network)
    tiled = segment_image(seen, image, Preprocessing(None), tile=384, halo=160)
    assert [tuple(images.shape) for images in seen.images] == [(1, 3, 352, 384)] * 2
    assert all(i.is_contiguous(memory_format=torch.channels_last) for i in seen.images)
    whole = segment_image(network, image, Preprocessing(None))
    assert (tiled != whole).mean() < 1e-4
    assert len(np.unique(whole)) > 2


def test_a_large_image_is_scored_in_equal_tiles() -> None:
    def flat(images: Tensor) -> Tensor:
        return images.new_zeros(1, 7, *images.shape[2:])

    assert TILE == 2048
    for shape in ((512, 512), (513, 512), (600, 1000), (20, 20_000)):
        seen = Seen(flat)
        segment_image(seen, np.zeros((*shape, 3), np.uint8), Preprocessing(None), tile=512)
        assert len({images.shape for images in seen.images}) == 1
        assert seen.images[0].shape[2] * seen.images[0].shape[3] <= 512 * 512
        assert (len(seen.images) == 1) == (shape == (512, 512))


@given(
    cells=st.integers(1, 400),
    longest=st.integers(1200, 2100),
    halo=st.integers(0, 336),
    grid=st.sampled_from([STRIDE, 6 * STRIDE]),
)
def test_spans_cover_a_line_with_their_cores(
    cells: int, longest: int, halo: int, grid: int
) -> None:
    length = cells * grid
    tiles = list(spans(length, longest, halo, grid))
    assert tiles[0].core_start == 0
    assert tiles[-1].core_end == length
    assert all(a.core_end == b.core_start for a, b in pairwise(tiles))
    assert len({tile.end - tile.start for tile in tiles}) == 1
    for tile in tiles:
        assert 0 <= tile.start <= tile.core_start < tile.core_end <= tile.end <= length
        assert tile.end - tile.start <= longest
        assert not any(n % grid for n in (tile.start, tile.end, tile.core_start, tile.core_end))
        assert tile.start == 0 or tile.core_start - tile.start >= halo
        assert tile.end == length or tile.end - tile.core_end >= halo


def test_a_tile_without_a_core_is_refused() -> None:
    with pytest.raises(ValueError, match="no core"):
        list(spans(1024, 256, 192))


def test_half_precision_logits_and_read_only_images_are_taken() -> None:
    image = random_image(40, 50)
    image.flags.writeable = False
    preprocessing = Preprocessing(None, 0.5, IMAGENET_MEAN, IMAGENET_STD)
    classes = segment_image(lambda images: pixelwise(images).bfloat16(), image, preprocessing)
    rounded = segment_image(
        lambda images: pixelwise(images).bfloat16().float(), image.copy(), preprocessing
    )
    assert np.array_equal(classes, rounded)
    assert len(np.unique(classes)) > 1
