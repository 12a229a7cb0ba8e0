"""A network made ready: its numbers are plain torch's, its lack of memory the machine's fault."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import random_network
from torch import nn

from hw1.core.errors import EnvironmentFault
from hw1.core.numerics import detect, require
from hw1.core.preprocessing import Preprocessing, normalise
from hw1.models.inference import prepare

PROFILE = detect("cpu", "fp32", 2, torch.get_num_threads())


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()


def test_logits_are_plain_torchs() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3), np.uint8)
    preprocessing = Preprocessing(size=9, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    for channel in range(3):
        inputs[:, channel] -= preprocessing.mean[channel]
        inputs[:, channel] /= preprocessing.std[channel]
    with torch.inference_mode():
        expected = network()(inputs)
        found = prepare(network(), preprocessing, PROFILE)(images)
    torch.testing.assert_close(found, expected)


def test_a_gpu_would_give_the_same_bytes_again_in_the_precision_it_is_asked_for() -> None:
    cudnn = torch.backends.cudnn
    with cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
        prepare(network(), Preprocessing(size=9), PROFILE)
        assert (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == (False, True, False)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_a_lack_of_memory_is_the_machines_fault(error: Exception) -> None:
    class Hungry(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise error

    ready = prepare(Hungry(), Preprocessing(size=4), PROFILE)
    with pytest.raises(EnvironmentFault, match="memory ran out"):
        ready(np.zeros((1, 4, 4, 3), np.uint8))


def test_a_machine_that_differs_from_the_profile_is_refused() -> None:
    require(PROFILE)
    with pytest.raises(EnvironmentFault, match=r"torch .0\.1"):
        require(replace(PROFILE, torch="0.1"))


@pytest.mark.parametrize("word", ["fcn8s", "fcn32s"])
def test_a_segmenter_of_the_presets_gives_plain_torchs_logits(word: str) -> None:
    """Bit for bit, whatever the size, in the layout that the tiles come in."""
    network = random_network(word, 7)
    ready = prepare(copy.deepcopy(network), Preprocessing(None), PROFILE)
    for shape in ((1, 3, 64, 96), (1, 3, 256, 160), (2, 3, 32, 32)):
        inputs = torch.rand(shape).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            expected = network(inputs.contiguous())
            assert torch.equal(ready.logits(inputs), expected)


def test_a_segmenter_of_a_library_runs_as_in_plain_torch() -> None:
    """Bit for bit: a mask has many pixels, and some of them are nearly ties."""
    network = random_network("torchvision:lraspp_mobilenet_v3_large", 5)
    images = torch.randint(0, 256, (1, 3, 90, 70), dtype=torch.uint8)
    preprocessing = Preprocessing(None, resize=70)
    inputs = normalise(images, preprocessing)
    with torch.inference_mode():
        expected = network(inputs)["out"]
        found = prepare(copy.deepcopy(network), preprocessing, PROFILE).logits(inputs)
    assert torch.equal(found, expected)


def test_a_network_of_a_library_is_folded_and_packed_where_it_may_be() -> None:
    network = random_network("timm:test_efficientnet", 5)
    images = np.random.default_rng(0).integers(0, 256, (PROFILE.batch_size, 48, 48, 3), np.uint8)
    preprocessing = Preprocessing(48)
    with torch.inference_mode():
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        expected = network(normalise(pixels, preprocessing))
        found = prepare(copy.deepcopy(network), preprocessing, PROFILE)(images)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)


def test_a_networks_inputs_are_in_the_order_that_it_learnt() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 5), generator=torch.Generator().manual_seed(0))
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    found = normalise(images, Preprocessing(size=(4, 5), mean=mean, std=std, order="bgr", white=1))
    for channel in range(3):
        expected = (images[:, 2 - channel] / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(found[:, channel], expected)
