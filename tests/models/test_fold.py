"""Folded, collapsed and packed networks compute what they did before."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hw1.models._torchvision import models
from hw1.models.classifiers import VGG19BN
from hw1.models.collapse import (
    WEIGHT,
    collapse,
    collapse_weight,
    collapsed_side,
    expand_state,
    expand_weight,
    pool_matrix,
)
from hw1.models.fold import optimise
from hw1.models.pack import PackedConv2d, pack
from hw1.models.registry import build

SIDES = st.integers(1, 6)


def randomised(network: nn.Module) -> nn.Module:
    """In float64 and eval mode, its batch norms far from the identity."""
    network = network.double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network


def small(kind: str) -> nn.Module:
    """The members' building blocks in networks that cost little."""
    torch.manual_seed(1)
    bottleneck = models.resnet.Bottleneck
    one = [1, 1, 1, 1]
    match kind:
        case "resnet":
            return randomised(models.ResNet(bottleneck, one, 50, width_per_group=8))
        case "resnext":
            return randomised(models.ResNet(bottleneck, one, 50, groups=4, width_per_group=4))
        case "densenet":
            return randomised(models.DenseNet(8, (2, 2, 2, 2), 16, num_classes=50))
        case "efficientnet":
            return randomised(build("efficientnet_lite2"))
    with torch.device("meta"):
        network = VGG19BN((), 50)
    network.features = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(8)),
        *(nn.Conv2d(16, 512, 3, padding=1), nn.BatchNorm2d(512), nn.ReLU(), nn.MaxPool2d(4)),
    )
    network.classifier = nn.Sequential(nn.Linear(25088, 8), nn.ReLU(), nn.Linear(8, 50))
    return randomised(network)


@pytest.mark.timeout(300)  # many short loops: slow where threads wait for others' cores
@pytest.mark.parametrize("kind", ["resnet", "resnext", "densenet", "vgg19_bn", "efficientnet"])
def test_folding_keeps_the_function(kind: str) -> None:
    network = small(kind)
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        before = network(images)
        after = optimise(network)(images)
        again = optimise(network)(images)
    assert after.shape == (2, 50)
    assert torch.allclose(before, after, rtol=1e-10, atol=1e-10 * before.abs().max().item())
    assert torch.equal(after, again)


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("resnet152", 0),
        ("vgg19_bn_1", 0),
        ("efficientnet_lite2", 0),
        ("densenet169", 82 + 4),  # a norm1 in each layer, three transitions, one at the end
    ],
)
def test_all_norms_behind_a_convolution_fold(name: str, left: int) -> None:
    network = optimise(build(name, "meta").eval())
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == left


def test_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="training mode"):
        optimise(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))


@pytest.mark.parametrize("size", [32, 40, 64, 96, 223])
def test_a_collapsed_vgg19_bn_keeps_the_function_at_its_size(size: int) -> None:
    network = small("vgg19_bn")
    network.features = nn.AdaptiveAvgPool2d(size // 32)  # the features' shape, not their cost
    features = torch.rand(3, 512, 7, 7, dtype=torch.float64)
    with torch.inference_mode():
        before = network(features)
        after = collapse(network, size)(features)
    assert network.classifier[0].weight.shape == (8, 512 * (size // 32) ** 2)
    assert (before - after).abs().max() < 1e-10


def test_optimise_collapses_for_a_size() -> None:
    network = small("vgg19_bn")
    images = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        before = network(images)
        after = optimise(network, 64)(images)
    assert network.classifier[0].in_features == 512 * 4
    assert torch.allclose(before, after, rtol=1e-10, atol=1e-10)


def test_sizes_that_fill_the_pool_and_other_networks_stay() -> None:
    network = small("vgg19_bn")
    weight = network.classifier[0].weight
    assert collapse(network, 224).classifier[0].weight is weight
    assert collapse(network, 256).classifier[0].weight is weight
    resnet = small("resnet")
    assert collapse(resnet, 64) is resnet
    once = copy.deepcopy(collapse(network, 64))
    assert collapse(network, 64).classifier[0].weight.equal(once.classifier[0].weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["resnet", "resnext", "densenet", "vgg19_bn", "efficientnet"])
def test_packing_keeps_the_function(kind: str, dtype: torch.dtype) -> None:
    network = optimise(small(kind), 64).to(dtype).to(memory_format=torch.channels_last)
    images = torch.rand(3, 3, 64, 64).to(dtype).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        before = network(images)
        packed = pack(network, images[:1], 3)
        after = packed(images)
    # A residual's sum is rounded once less: a last place here and there.
    close = 1e-5 if dtype == torch.float32 else 2**-6
    assert (before - after).abs().max() <= close * before.abs().max()
    # A processor without AVX512 has no bf16 kernels to pack for: there it stays as it is.
    can = dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert any(isinstance(module, PackedConv2d) for module in packed.modules()) == can
    assert any(isinstance(module, nn.Conv2d) for module in packed.modules()) != can


def test_what_is_not_packed_keeps_its_relu() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding="same"), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU()
    ).eval()
    images = torch.rand(2, 3, 8, 8)
    with torch.inference_mode():
        before = network(images)
        after = pack(network, images, 2)(images)
    torch.testing.assert_close(after, before)
    assert isinstance(network[1], nn.ReLU)


def test_a_packed_segmenter_takes_any_size() -> None:
    torch.manual_seed(1)
    network = build("fcn8s").eval().to(memory_format=torch.channels_last)
    nn.init.normal_(network.fused_all_upsample.weight)
    sizes = [(64, 64), (32, 96), (96, 64)]
    images = [torch.rand(1, 3, *s).contiguous(memory_format=torch.channels_last) for s in sizes]
    with torch.inference_mode():
        before = [network(image) for image in images]
        packed = pack(network, images[0], 1)
        after = [packed(image) for image in images]
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)


def test_networks_stay_where_torch_lacks_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU())
    assert pack(network, torch.zeros(1, 3, 8, 8), 1) is network
    assert isinstance(network[0], nn.Conv2d)


@given(SIDES)
def test_the_pool_is_its_matrix(side: int) -> None:
    cells = torch.rand(2, 3, side, side, dtype=torch.float64)
    pooled = nn.functional.adaptive_avg_pool2d(cells, 7)
    assert torch.allclose(cells.flatten(2) @ pool_matrix(side).T, pooled.flatten(2), atol=1e-14)
    assert torch.linalg.matrix_rank(pool_matrix(side)) == side**2


def pooled_linear(features: Tensor, weight: Tensor) -> Tensor:
    return nn.functional.adaptive_avg_pool2d(features, 7).flatten(1) @ weight.T


@settings(max_examples=10, deadline=None)
@given(SIDES, st.integers(0, 2**31))
def test_expanded_weights_compute_what_the_collapsed_did(side: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(2, 512, side, side, dtype=torch.float64, generator=generator)
    weight = torch.randn(5, 512 * side**2, dtype=torch.float64, generator=generator)
    expanded = expand_weight(weight, side)
    assert expanded.shape == (5, 25088)
    direct = features.flatten(1) @ weight.T
    assert (pooled_linear(features, expanded) - direct).abs().max() < 1e-10
    assert (collapse_weight(expanded, side) - weight).abs().max() < 1e-10


@settings(max_examples=10, deadline=None)
@given(SIDES, st.integers(0, 2**31))
def test_collapsed_weights_compute_what_the_table_did(side: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(2, 512, side, side, dtype=torch.float64, generator=generator)
    weight = torch.randn(5, 25088, dtype=torch.float64, generator=generator)
    collapsed = collapse_weight(weight, side)
    assert (features.flatten(1) @ collapsed.T - pooled_linear(features, weight)).abs().max() < 1e-10


def test_one_cell_is_spread_over_all() -> None:
    weight = torch.ones(1, 512, dtype=torch.float64)
    assert torch.allclose(expand_weight(weight, 1), torch.full((1, 25088), 1 / 49).double())


def test_collapsed_states_expand_and_others_stay() -> None:
    state = {WEIGHT: torch.randn(3, 25088), "classifier.0.bias": torch.randn(3)}
    stored = {**state, WEIGHT: collapse_weight(state[WEIGHT], 1)}
    assert stored[WEIGHT].shape == (3, 512)
    expanded = expand_state(stored)
    assert expanded[WEIGHT].shape == (3, 25088)
    assert expanded["classifier.0.bias"] is state["classifier.0.bias"]
    assert expand_state(state)[WEIGHT] is state[WEIGHT]
    assert expand_state({}) == {}


@pytest.mark.parametrize(
    ("shape", "side"),
    [
        ((4096, 512), 1),
        ((4096, 512 * 36), 6),
        ((4096, 25088), None),
        ((4096, 1024), None),
        ((4096, 0), None),
        ((4096, 4096 + 1), None),
        ((512,), None),
        ((50, 512, 1, 1), None),
    ],
)
def test_the_side_is_read_off_the_shape(shape: tuple[int, ...], side: int | None) -> None:
    assert collapsed_side(shape) == side
