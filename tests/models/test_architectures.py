"""The words that name an architecture, and what the libraries' networks expect."""

import pytest
import torch

from hw1.core.errors import InputError
from hw1.core.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from hw1.models import architectures
from hw1.models._torchvision import models
from hw1.models.architectures import find_architecture
from hw1.models.registry import build, class_axes, layout

IMAGENET = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("resnet50", r"no architecture 'resnet50': did you mean torchvision:resnet50\?"),
        ("torchvision:resnet51", r"did you mean torchvision:resnet5?0?"),
        ("timm:mobilenetv3_smal_050", r"did you mean timm:mobilenetv3_small_050"),
        ("timm:resnet50.no_such_tag", r"no architecture 'timm:resnet50\.no_such_tag'"),
        ("vgg61", r"did you mean .*vgg16 "),
        ("keras:resnet50", r"Expected one of vgg16, .*, or torchvision:NAME or timm:NAME"),
    ],
)
def test_an_unknown_word_gets_the_nearest(word: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_architecture(word)


def test_a_missing_library_is_reported_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'timm:resnet18 needs timm: pip install "hw1\[timm\]"'):
        find_architecture("timm:resnet18")
    with pytest.raises(InputError, match=r'needs onnxruntime: pip install "hw1\[onnx\]"'):
        architectures.require_library("onnx")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("torchvision:resnet50", Preprocessing(224, resize=256, **IMAGENET)),
        (
            "torchvision:efficientnet_b0",
            Preprocessing(224, resize=256, interpolation="bicubic", **IMAGENET),
        ),
        ("torchvision:deeplabv3_resnet50", Preprocessing(None, resize=520, **IMAGENET)),
        (
            "timm:mobilenetv3_small_050",
            Preprocessing(224, resize=256, interpolation="bicubic", **IMAGENET),
        ),
        ("vgg16", Preprocessing(40)),
        ("fcn8s", Preprocessing(None)),
    ],
)
def test_what_an_image_becomes_by_default(word: str, expected: Preprocessing) -> None:
    assert find_architecture(word).preprocessing == expected


@pytest.mark.parametrize(
    "word",
    [
        "vgg16",
        "fcn8s",
        "torchvision:mobilenet_v3_small",
        "torchvision:inception_v3",
        "torchvision:googlenet",
        "torchvision:regnet_y_400mf",
        "torchvision:vit_b_16",
        "torchvision:fcn_resnet50",
        "torchvision:lraspp_mobilenet_v3_large",
        "timm:test_vit",
    ],
)
def test_the_last_layer_is_found_whatever_its_name(word: str) -> None:
    axes = class_axes(word)
    assert axes
    assert all(layout(word, 11)[name][axis] == 11 for name, axis in axes.items())


def test_every_network_of_torchvision_has_a_layout() -> None:
    """A few, of each family one; shapes alone cost nothing."""
    names = ["convnext_tiny", "densenet121", "efficientnet_v2_s", "maxvit_t", "swin_v2_t"]
    for name in [*names, "mnasnet0_5", "shufflenet_v2_x0_5", "squeezenet1_0", "alexnet"]:
        with torch.device("meta"):
            expected = models.get_model(name, num_classes=4).state_dict()
        assert layout(f"torchvision:{name}", 4) == {k: tuple(t.shape) for k, t in expected.items()}


def test_a_transformer_for_images_of_another_size() -> None:
    assert layout("torchvision:vit_b_16", 4, (384, 384))["encoder.pos_embedding"][1] == 577
    assert layout("timm:test_vit", 4, (96, 96))["pos_embed"][1] == 6 * 6 + 1


def test_what_only_training_needs_is_not_built() -> None:
    assert not any(name.startswith("aux") for name in layout("torchvision:fcn_resnet50", 3))
    assert not any(name.startswith("Aux") for name in layout("torchvision:inception_v3", 3))


def test_a_network_on_the_cpu_predicts() -> None:
    network = build("timm:test_efficientnet", classes=4).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 4)


def test_a_network_whose_images_get_a_border_is_refused() -> None:
    architecture = find_architecture("timm:deepseek_vit_412m.deepseek_v4_1_flash")
    with pytest.raises(InputError, match="crop mode 'border'"):
        _ = architecture.preprocessing
