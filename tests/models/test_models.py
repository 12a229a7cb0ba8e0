"""The networks: names and shapes of the table, outputs, and building without weights."""

import importlib
import sys
from collections.abc import Callable
from math import prod

import pytest
import torch
from torch import nn

from hw1.core.errors import InputError
from hw1.models import _torchvision
from hw1.models._torchvision import models as torchvision_models
from hw1.models.members import CLASSIFIERS, MEMBERS, SEGMENTERS, find_member, nearest
from hw1.models.registry import CLASSIFIERS as CLASSIFIER_BUILDERS
from hw1.models.registry import SEGMENTERS as SEGMENTER_BUILDERS
from hw1.models.registry import build, layout

Layout = dict[str, tuple[int, ...]]


def linears(prefix: str, *layers: tuple[int, int, int]) -> Layout:
    """Entries of linear layers: (index in their Sequential, or -1 for none, inputs, outputs)."""
    entries: Layout = {}
    for index, inputs, outputs in layers:
        name = prefix if index < 0 else f"{prefix}.{index}"
        entries |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    return entries


def convolution(name: str, outputs: int, inputs: int, kernel: int) -> Layout:
    return {f"{name}.weight": (outputs, inputs, kernel, kernel), f"{name}.bias": (outputs,)}


def upsampling(name: str, inputs: int, outputs: int, kernel: int) -> Layout:
    return {f"{name}.weight": (inputs, outputs, kernel, kernel), f"{name}.bias": (outputs,)}


def torchvision_layout(name: str, without: str) -> Layout:
    """torchvision's own ImageNet network, less its head."""
    with torch.device("meta"):
        state = getattr(torchvision_models, name)().state_dict()
    return {key: tuple(t.shape) for key, t in state.items() if not key.startswith(without)}


VGG16 = [
    (0, 3, 64),
    (2, 64, 64),
    (5, 64, 128),
    (7, 128, 128),
    (10, 128, 256),
    (12, 256, 256),
    (14, 256, 256),
    (17, 256, 512),
    (19, 512, 512),
    (21, 512, 512),
    (24, 512, 512),
    (26, 512, 512),
    (28, 512, 512),
]


def vgg16(prefix: str, first: int = 0, end: int = 31) -> Layout:
    entries: Layout = {}
    for index, inputs, outputs in VGG16:
        if first <= index < end:
            entries |= convolution(f"{prefix}.{index - first}", outputs, inputs, 3)
    return entries


def resnet(name: str) -> Layout:
    return torchvision_layout(name, "fc.") | linears("fc", (-1, 2048, 50))


def densenet(name: str, inputs: int) -> Layout:
    return torchvision_layout(name, "classifier.") | linears("classifier", (-1, inputs, 50))


def vgg19_bn(*layers: tuple[int, int, int]) -> Layout:
    return torchvision_layout("vgg19_bn", "classifier.") | linears("classifier", *layers)


def normed(convolution: str, norm: str, *shape: int) -> Layout:
    """A convolution without bias, and the batch norm behind it."""
    shapes = {"weight": shape[:1], "bias": shape[:1]}
    shapes |= {"running_mean": shape[:1], "running_var": shape[:1], "num_batches_tracked": ()}
    return {f"{convolution}.weight": shape} | {f"{norm}.{key}": s for key, s in shapes.items()}


def efficientnet_lite2() -> Layout:
    """The names and shapes of timm's tf_efficientnet_lite2."""
    entries = normed("conv_stem", "bn1", 32, 3, 3, 3)
    entries |= normed("blocks.0.0.conv_dw", "blocks.0.0.bn1", 32, 1, 3, 3)
    entries |= normed("blocks.0.0.conv_pw", "blocks.0.0.bn2", 16, 32, 1, 1)
    stages = [(3, 3, 24), (3, 5, 48), (4, 3, 88), (4, 5, 120), (5, 5, 208), (1, 3, 352)]
    inputs = 16
    for stage, (count, kernel, outputs) in enumerate(stages, 1):
        for block in range(count):
            name, wide = f"blocks.{stage}.{block}", 6 * inputs
            entries |= normed(f"{name}.conv_pw", f"{name}.bn1", wide, inputs, 1, 1)
            entries |= normed(f"{name}.conv_dw", f"{name}.bn2", wide, 1, kernel, kernel)
            entries |= normed(f"{name}.conv_pwl", f"{name}.bn3", outputs, wide, 1, 1)
            inputs = outputs
    entries |= normed("conv_head", "bn2", 1280, 352, 1, 1)
    return entries | linears("classifier", (-1, 1280, 50))


# The design's table, written out.
EXPECTED: dict[str, Callable[[], Layout]] = {
    "vgg16": lambda: vgg16("backbone") | linears("fc", (0, 512, 256), (2, 256, 50)),
    "resnet152": lambda: resnet("resnet152"),
    "densenet161": lambda: densenet("densenet161", 2208),
    "densenet169": lambda: densenet("densenet169", 1664),
    "resnext101_32x8d": lambda: resnet("resnext101_32x8d"),
    "vgg19_bn_1": lambda: vgg19_bn((0, 25088, 4096), (3, 4096, 4096), (6, 4096, 50)),
    "vgg19_bn_2": lambda: vgg19_bn((0, 25088, 4096), (3, 4096, 50)),
    "vgg19_bn_3": lambda: vgg19_bn(
        (0, 25088, 4096), (3, 4096, 4096), (6, 4096, 2048), (9, 2048, 50)
    ),
    "efficientnet_lite2": efficientnet_lite2,
    "fcn8s": lambda: (
        vgg16("to_pool3", 0, 17)
        | vgg16("to_pool4", 17, 24)
        | vgg16("to_pool5", 24, 31)
        | convolution("to_pool5_predict.0", 1024, 512, 3)
        | convolution("to_pool5_predict.2", 1024, 1024, 3)
        | convolution("to_pool5_predict.4", 7, 1024, 1)
        | upsampling("pool5_upsample", 7, 7, 2)
        | convolution("to_pool4_predict", 7, 512, 1)
        | upsampling("fused_pool4_pool5_upsample", 7, 7, 2)
        | convolution("to_pool3_predict", 7, 256, 1)
        | upsampling("fused_all_upsample", 7, 7, 8)
    ),
    "fcn32s": lambda: (
        vgg16("features")
        | convolution("conv.0", 1024, 512, 3)
        | convolution("conv.2", 1024, 1024, 3)
        | convolution("conv.4", 1024, 1024, 3)
        | upsampling("classifier.0", 1024, 7, 32)
    ),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_state_dicts_have_the_tables_names_and_shapes(name: str) -> None:
    assert layout(name) == EXPECTED[name]()


@pytest.mark.parametrize("name", MEMBERS)
def test_parameter_counts(name: str) -> None:
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    sizes = [prod(shape) for key, shape in layout(name).items() if not key.endswith(buffers)]
    assert sum(sizes) == MEMBERS[name].parameters


def test_fcn8s_has_the_stated_number_of_parameters() -> None:
    assert sum(map(prod, layout("fcn8s").values())) == 28_888_626


def test_members_and_builders_are_the_same_in_the_tables_order() -> None:
    assert list(CLASSIFIER_BUILDERS) == list(CLASSIFIERS)
    assert list(SEGMENTER_BUILDERS) == list(SEGMENTERS)


def test_shares_are_the_references_thirteenths() -> None:
    assert [MEMBERS[name].vote_weight for name in CLASSIFIERS] == [1, 1, 2, 1, 2, 2, 2, 2, 0]
    assert sum(MEMBERS[name].vote_weight for name in CLASSIFIERS) == 13


@pytest.mark.parametrize(
    "name",
    ["vgg16", "resnet152", "densenet169", "vgg19_bn_3", "efficientnet_lite2", "fcn8s", "fcn32s"],
)
def test_heads_give_their_classes(name: str) -> None:
    images = torch.empty(2, 3, 64, 96, device="meta")
    logits = build(name, "meta").eval()(images)
    assert logits.shape == ((2, 50) if name in CLASSIFIERS else (2, 7, 64, 96))


def test_heads_between_their_linears() -> None:
    heads = {name: build(name, "meta") for name in ("vgg16", "vgg19_bn_1", "vgg19_bn_3")}
    kinds = {name: [type(m).__name__ for m in heads[name].classifier] for name in list(heads)[1:]}
    hidden = ["Linear", "ReLU", "Dropout"]
    assert kinds == {
        "vgg19_bn_1": [*hidden * 2, "Linear"],
        "vgg19_bn_3": [*hidden * 3, "Linear"],
    }
    assert [type(m) for m in heads["vgg16"].fc] == [nn.Linear, nn.ReLU, nn.Linear]
    assert heads["vgg16"].avgpool.output_size == 1


# What tf_efficientnet_lite2 of timm 1.0.31 gives with such weights: sides that are padded by
# TensorFlow's rule on both sides alike, and on the right and the lower one only.
@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ((64, 96), [0.5988905290894864, -0.1575072943753606, 0.6597254255264622]),
        ((65, 50), [0.49431649062499944, -0.07350280296398282, 0.6301540790394622]),
    ],
)
def test_efficientnet_lite2_computes_what_timms_does(
    sides: tuple[int, int], expected: list[float]
) -> None:
    network = build("efficientnet_lite2").double().eval()
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        wave = torch.arange(tensor.numel()).double().mul(0.7).sin().view(tensor.shape)
        if tensor.dim() > 1:  # such that activations are about 1
            tensor.copy_(wave * (2 / tensor[0].numel()) ** 0.5)
        else:
            tensor.copy_(wave / 2 + (1 if name.endswith(("running_var", "weight")) else 0))
    images = torch.arange(3 * prod(sides)).double().mul(0.3).cos().view(1, 3, *sides)
    with torch.inference_mode():
        logits = network(images)[0, :3]
    assert logits.tolist() == pytest.approx(expected, rel=1e-9)


def test_fcn8s_adds_the_three_predictions() -> None:
    """Written again, in one expression, with the same weights."""
    torch.manual_seed(0)
    net = build("fcn8s").eval()
    images = torch.rand(1, 3, 32, 64)
    with torch.inference_mode():
        pool3 = net.to_pool3(images)
        pool4 = net.to_pool4(pool3)
        deep = net.pool5_upsample(net.to_pool5_predict(net.to_pool5(pool4)))
        middle = net.fused_pool4_pool5_upsample(deep + net.to_pool4_predict(pool4))
        expected_logits = net.fused_all_upsample(middle + net.to_pool3_predict(pool3))
        assert pool3.shape == (1, 256, 4, 8)
        assert deep.shape == (1, 7, 2, 4)
        assert torch.equal(net(images), expected_logits)


def test_random_weights_start_as_torchvisions() -> None:
    torch.manual_seed(0)
    features = build("vgg16").backbone
    assert not features[0].bias.any()
    expected_deviation = (2 / (512 * 9)) ** 0.5  # Kaiming's normal distribution, fan out
    assert features[28].weight.std().item() == pytest.approx(expected_deviation, rel=0.01)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("vgg61", "vgg16"), ("VGG16", "vgg16"), ("resnet_152", "resnet152"), ("fcn8", "fcn8s")],
)
def test_an_unknown_name_gets_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(InputError, match=f"did you mean {hint}"):
        find_member(name)
    with pytest.raises(InputError):
        build(name)


def test_a_name_like_no_other_gets_all_of_them() -> None:
    with pytest.raises(InputError) as caught:
        find_member("zzz")
    assert "did you mean" not in str(caught.value)
    assert "vgg16, resnet152" in str(caught.value)
    assert nearest("a", []) == "there are none"


def test_torchvision_comes_without_torchs_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch._dynamo", "torch._dynamo.utils"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with _torchvision._compiler_left_out():
        stand_in = importlib.import_module("torch._dynamo.utils")
        assert stand_in.is_compile_supported is _torchvision._is_compile_supported
    assert "torch._dynamo" not in sys.modules
    monkeypatch.setitem(sys.modules, "torch._dynamo", stand_in)
    with _torchvision._compiler_left_out():  # imported already: left as it is
        assert sys.modules["torch._dynamo"] is stand_in
