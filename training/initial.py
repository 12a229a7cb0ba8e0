"""What a network begins with: pretrained layers where there are any, nothing that disturbs them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..core.errors import InputError
from ..models import files
from ..models._torchvision import models
from ..models.architectures import find_architecture
from ..models.backbones import vgg16_features
from ..models.classifiers import VGG16, VGG19BN
from ..models.collapse import collapse
from ..models.efficientnet import EfficientNetLite2
from ..models.fit import check, fill, fit
from ..models.members import MEMBERS
from ..models.registry import build, class_axes
from ..models.segmenters import FCN8s, FCN32s
from ..models.wrappers import align
from . import grow

_TORCHVISION = {"vgg16", "resnet152", "densenet161", "densenet169", "resnext101_32x8d"}
_VGG_NUMBERED = re.compile(r"(?:features\.|backbone\.)?(\d+\.(?:weight|bias))")
# The names that densenets' weights had when torchvision published them.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")

_TRUNK = 0.9  # of the weights: what holds so many is no block, but all of them
_SAID = 200  # characters of another library's error

Samples = Callable[[], Tensor]
"""Gives normalised training images, float32 (N, 3, S, S), to calibrate batch norms on."""


@dataclass(frozen=True, slots=True)
class Start:
    """A network to train, and what it began with, in words."""

    network: nn.Module
    origin: str


def start(
    member: str,
    init: str,
    size: int,
    samples: Samples,
    *,
    classes: int | None = None,
    dropout: float = 0.0,
) -> Start:
    """Build a member, or another architecture by its word, and give it its first weights.

    ``init`` is ``imagenet``, ``scratch``, or a file: a checkpoint of this member, its ImageNet
    weights (which have another head), or VGG16's convolutions (of a checkpoint of vgg16, or
    ``features.N.weight`` alone) for members that have them or grow from them. A vgg19_bn comes
    collapsed for ``size`` × ``size`` pixels: the same function with fewer weights. ``dropout`` is
    fcn8s's, in training. Raises InputError for a file that doesn't fit, and where torchvision's
    weights cannot be had.
    """
    if member not in MEMBERS:
        return _of_library(member, init, size, classes)
    network = build(member, classes=classes)
    _start_segmenter(network)
    if init == "imagenet":
        origin = _from_torchvision(network, member, samples)
    elif init == "scratch":
        origin = "random weights"
    else:
        network, origin = _from_file(network, member, Path(init), samples, classes)
    _drop_out(network, dropout)
    return Start(collapse(network, size), origin)


def _of_library(word: str, init: str, size: int, classes: int | None) -> Start:
    """A network of torchvision or timm, with the library's weights, a file's, or random ones."""
    sides = (size, size) if find_architecture(word).task == "classify" else None
    network = build(word, classes=classes, sides=sides)
    if init == "scratch":
        return Start(network, "random weights")
    if init == "imagenet":
        state, origin = library_weights(word, sides), f"{word.partition(':')[0]}'s own weights"
    else:
        state, origin = files.parse(files.read_bytes(Path(init)), Path(init))[0], init
    ours = network.state_dict()
    state, _ = align(state, ours)
    last = set(class_axes(word, sides))
    misfits = [
        name
        for name, tensor in ours.items()
        if name not in last and (name not in state or state[name].shape != tensor.shape)
    ]
    if misfits:
        raise InputError(
            f"--init {init} doesn't fit {word}: it lacks {misfits[0]}, or has it in another shape"
            f"{f', and {len(misfits) - 1} more' if len(misfits) > 1 else ''}"
        )
    fitting = {n: t for n, t in state.items() if n in ours and t.shape == ours[n].shape}
    fill(network, fitting, strict=False)
    whole = all(name in fitting for name in last)
    return Start(network, origin if whole else f"{origin}, all but the last layer")


def library_weights(word: str, sides: tuple[int, int] | None) -> dict[str, Tensor]:
    """The weights that a library offers for its network; InputError where they can't be had."""
    library, _, name = word.partition(":")
    try:
        if library == "torchvision":
            weights = next(iter(models.get_model_weights(name)))
            state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
            return state
        import timm

        shape: dict[str, Any] = {} if sides is None else {"img_size": sides}
        try:
            pretrained = timm.create_model(name, pretrained=True, **shape)
        except TypeError:  # most take any size
            pretrained = timm.create_model(name, pretrained=True)
        found: dict[str, Tensor] = pretrained.state_dict()
    except (OSError, RuntimeError, StopIteration, ImportError) as error:
        raise InputError(
            f"--init imagenet: the weights of {word} cannot be had ({str(error)[:_SAID]}): give "
            "--init FILE, or --init scratch"
        ) from error
    return found


def head_of(network: nn.Module, word: str, sides: tuple[int, int] | None) -> list[nn.Parameter]:
    """Parameters that no pretrained weights begin: of timm its classifier, or the last layer."""
    if word in MEMBERS:
        return head(network)
    find: Any = getattr(network, "get_classifier", None)
    classifier = find() if find is not None else None
    if isinstance(classifier, nn.Module) and any(True for _ in classifier.parameters()):
        return list(classifier.parameters())
    last = set(class_axes(word, sides))
    return [parameter for name, parameter in network.named_parameters() if name in last]


def convolutions(network: nn.Module) -> nn.Sequential | None:
    """The VGG layers of a network, numbered as torchvision's ``features``; None without them."""
    if isinstance(network, FCN8s):
        return nn.Sequential(*network.to_pool3, *network.to_pool4, *network.to_pool5)
    if isinstance(network, VGG16):
        return network.backbone
    return network.features if isinstance(network, VGG19BN | FCN32s) else None


def head(network: nn.Module) -> list[nn.Parameter]:
    """The parameters behind the backbone: those that no ImageNet weights begin."""
    layers = convolutions(network)
    if layers is not None:
        backbone = {id(parameter) for parameter in layers.parameters()}
        return [p for p in network.parameters() if id(p) not in backbone]
    last = network.fc if hasattr(network, "fc") else network.classifier
    assert isinstance(last, nn.Module)
    return list(last.parameters())


def freeze(
    network: nn.Module, count: int, last: Sequence[nn.Parameter] | None = None
) -> list[nn.Module]:
    """Keep the first ``count`` blocks as they are, and return them: batch norms' statistics too.

    A block is what lies between two halvings of the image: VGG's, up to and with a pooling; a
    residual or dense stage with what goes before it. ``last`` are the head's parameters of a
    library's network, whose blocks are its layers in their order, those of its trunk one by one.
    Raises InputError where there are fewer.
    """
    blocks = _blocks(network) if last is None else _library_blocks(network, last)
    if count > len(blocks):
        raise InputError(f"--freeze {count}: this network has {len(blocks)} blocks")
    frozen = [layer for block in blocks[:count] for layer in block]
    for layer in frozen:
        layer.requires_grad_(False)
    return frozen


def _library_blocks(network: nn.Module, last: Sequence[nn.Parameter]) -> list[list[nn.Module]]:
    head_ids = {id(parameter) for parameter in last}
    whole = sum(p.numel() for p in network.parameters() if id(p) not in head_ids)

    def parts(module: nn.Module, name: str) -> list[nn.Module]:
        own = [p for p in module.parameters() if id(p) not in head_ids]
        is_trunk = sum(p.numel() for p in own) > _TRUNK * whole or name == "backbone"
        if is_trunk and any(True for _ in module.children()):
            return [part for key, child in module.named_children() for part in parts(child, key)]
        return [module] if own else []

    found = parts(network, "")
    return [[part] for part in found if not any(id(p) in head_ids for p in part.parameters())]


def _blocks(network: nn.Module) -> list[list[nn.Module]]:
    if isinstance(network, EfficientNetLite2):
        first, second, third, *rest = network.blocks
        stem = [network.conv_stem, network.bn1, first]
        return [stem, [second], [third], rest[:2], rest[2:]]
    layers = convolutions(network)
    if layers is not None:
        return _cut(list(layers), lambda _, layer: isinstance(layer, nn.MaxPool2d))
    named = dict(network.named_children())
    if "features" in named:  # a densenet
        inner = dict(named["features"].named_children())
        ends = {"pool0", "transition1", "transition2", "transition3", "norm5"}
        return _cut(list(inner.values()), lambda name, _: name in ends, list(inner))
    del named["fc"]
    ends = {"maxpool", "layer1", "layer2", "layer3", "layer4"}
    return _cut(list(named.values()), lambda name, _: name in ends, list(named))


def _cut(
    layers: list[nn.Module],
    ends_block: Callable[[str, nn.Module], bool],
    names: list[str] | None = None,
) -> list[list[nn.Module]]:
    """Layers in blocks, each up to one that ends it; what is behind the last end is dropped."""
    blocks: list[list[nn.Module]] = [[]]
    for name, layer in zip(names or [""] * len(layers), layers, strict=True):
        blocks[-1].append(layer)
        if ends_block(name, layer):
            blocks.append([])
    return blocks[:-1]


def _start_segmenter(network: nn.Module) -> None:
    """Begin FCN8s with its coarsest prediction alone, enlarged by nearest neighbour.

    The skips' predictions are zero, so they disturb nothing until they have learnt something.
    """
    if not isinstance(network, FCN8s):
        return
    ups = (
        network.pool5_upsample,
        network.fused_pool4_pool5_upsample,
        network.fused_all_upsample,
    )
    for up in ups:
        nn.init.zeros_(up.weight)
        for index in range(up.in_channels):
            nn.init.ones_(up.weight[index, index])
    for layer in (network.to_pool4_predict, network.to_pool3_predict):
        nn.init.zeros_(layer.weight)
    for part in (*ups, network.to_pool4_predict, network.to_pool3_predict):
        if part.bias is not None:
            nn.init.zeros_(part.bias)


def _drop_out(network: nn.Module, share: float) -> None:
    """Drop so much of what the two wide layers of FCN8s's head give, in training.

    As Long, Shelhamer & Darrell 2015 do behind fc6 and fc7, VGG16's layers that these stand for.
    It has no weights, and isn't part of the network that predicts.
    """
    if isinstance(network, FCN8s):
        for index in (1, 3):
            network.to_pool5_predict[index] = nn.Sequential(nn.ReLU(), nn.Dropout(share))


def _from_torchvision(network: nn.Module, member: str, samples: Samples) -> str:
    """Load what torchvision's ImageNet weights have of the network: all but its head."""
    if isinstance(network, EfficientNetLite2):
        raise InputError(
            f"--init imagenet: torchvision has no {member}: give --init FILE (its weights in "
            "timm's names, as safetensors), or --init scratch"
        )
    name = member if member in _TORCHVISION else "vgg16"
    if member.startswith("vgg19_bn"):
        name = "vgg19_bn"
    state = {_OLD_DENSENET.sub(r"\1\2", key): v for key, v in _fetch(name).items()}
    layers = convolutions(network)
    if layers is None:
        theirs = network.state_dict()
        state = {k: v for k, v in state.items() if k in theirs and v.shape == theirs[k].shape}
        network.load_state_dict(state, strict=False)
        return f"torchvision's {name}, ImageNet"
    ours = {key.removeprefix("features."): v for key, v in state.items()}
    # Weights older than batch norms' counters lack these; torch begins them at 0.
    layers.load_state_dict({key: ours[key] for key in layers.state_dict() if key in ours})
    _settle(network, layers, samples)
    return f"the convolutions of torchvision's {name}, ImageNet"


def _fetch(name: str) -> dict[str, Tensor]:
    """torchvision's weights; from its cache, or from the network."""
    weights = models.get_model_weights(name).IMAGENET1K_V1
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError
        raise InputError(
            f"--init imagenet: {weights.url} cannot be had ({error}): give --init FILE (a "
            "checkpoint, or VGG16's convolutions), or --init scratch"
        ) from error
    return state


def _from_file(
    network: nn.Module, member: str, path: Path, samples: Samples, classes: int | None
) -> tuple[nn.Module, str]:
    state, _ = files.parse(files.read_bytes(path), path)
    try:
        check(state, member, path, classes)
    except InputError as misfit:
        if _load_all_but_head(network, state):
            return network, f"{path.name}, all but its head"
        convs = vgg16_convolutions(state)
        layers = convolutions(network)
        if convs is None or layers is None:
            raise InputError(f"--init {misfit}") from misfit
        if isinstance(network, VGG19BN):
            grow.into_vgg19_bn(convs, network.features, samples())
            return network, f"VGG16's convolutions of {path.name}, grown"
        layers.load_state_dict(convs.state_dict())
        _settle(network, layers, samples)
        return network, f"VGG16's convolutions of {path.name}"
    return fit(state, member, path, classes).train().requires_grad_(True), path.name


def _load_all_but_head(network: nn.Module, state: dict[str, Tensor]) -> bool:
    """Load another task's weights of a network that ends in one Linear; False where they aren't."""
    if convolutions(network) is not None:
        return False
    last = {id(parameter) for parameter in head(network)}
    heads = {name for name, parameter in network.named_parameters() if id(parameter) in last}
    ours = {name: t for name, t in network.state_dict().items() if name not in heads}
    if any(name not in state or state[name].shape != t.shape for name, t in ours.items()):
        return False
    network.load_state_dict({name: state[name] for name in ours}, strict=False)
    return True


def _settle(network: nn.Module, layers: nn.Sequential, samples: Samples) -> None:
    """Rescale a segmenter's convolutions; a classifier's recipe was tuned on them as they are."""
    if isinstance(network, FCN8s | FCN32s):
        grow.rescale(layers, samples())


def vgg16_convolutions(state: dict[str, Tensor]) -> nn.Sequential | None:
    """VGG16's layers with the convolutions in a state dict; None where it lacks any.

    They are named ``features.N``, ``backbone.N`` or ``N``; other tensors may stand beside them.
    """
    layers = vgg16_features()
    found = {
        match[1]: tensor.float()
        for key, tensor in state.items()
        if (match := _VGG_NUMBERED.fullmatch(key))
    }
    expected = layers.state_dict()
    if any(key not in found or found[key].shape != t.shape for key, t in expected.items()):
        return None
    layers.load_state_dict({key: found[key] for key in expected})
    return layers
