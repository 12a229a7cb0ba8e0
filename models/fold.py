"""Networks made lighter for prediction, without changing the function that they compute."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ._torchvision import models
from .classifiers import VGG16, VGG19BN
from .collapse import collapse
from .efficientnet import DepthwiseSeparable, EfficientNetLite2, InvertedResidual
from .segmenters import FCN8s, FCN32s

# (convolution, batch norm) by attribute: the norm reads the convolution's output, and nothing
# else does. A DenseLayer's norm1 comes before its convolution, behind a ReLU: it can't fold.
_PAIRS: dict[type[Any], tuple[tuple[str, str], ...]] = {
    models.ResNet: (("conv1", "bn1"),),
    models.resnet.BasicBlock: (("conv1", "bn1"), ("conv2", "bn2")),
    models.resnet.Bottleneck: (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),
    models.densenet._DenseLayer: (("conv1", "norm2"),),
    EfficientNetLite2: (("conv_stem", "bn1"), ("conv_head", "bn2")),
    DepthwiseSeparable: (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    InvertedResidual: (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
}


_KNOWN = (
    models.ResNet,
    models.DenseNet,
    models.VGG,
    VGG16,
    VGG19BN,
    FCN8s,
    FCN32s,
    EfficientNetLite2,
)


def has_known_structure(network: nn.Module) -> bool:
    """Whether it is a network of which we know which layer follows which, without running it."""
    return isinstance(network, _KNOWN)


def optimise(network: nn.Module, size: int | None = None) -> nn.Module:
    """Fold batch norms into the convolutions before them; collapse a vgg19_bn for ``size``.

    In place, for a network in eval mode; returns it. The results are those of the network as it
    was, but for rounding. With ``size``, inputs must be ``size`` × ``size`` pixels. Of a network
    whose structure we don't know, those norms fold that a trace of it shows to be the only reader
    of a convolution's output; where it can't be traced, none.
    """
    if network.training:
        raise ValueError("a network in training mode can't be folded: its norms follow the batch")
    if has_known_structure(network):
        for module in list(network.modules()):
            for convolution, norm in _pairs(module):
                _fold(module, convolution, module, norm)
    else:
        for convolution, norm in list(_traced_pairs(network)):
            owners = [
                network.get_submodule(name.rpartition(".")[0]) for name in (convolution, norm)
            ]
            last = [name.rpartition(".")[2] for name in (convolution, norm)]
            _fold(owners[0], last[0], owners[1], last[1])
    return network if size is None else collapse(network, size)


def _traced_pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """The names of convolutions and norms that fold, by the graph of one forward pass.

    Tracing raises where the path depends on values or shapes, so that what it gives is the only
    path. Modules that are called twice stay as they are, as do kinds derived from torch's own.
    """
    try:
        graph = fx.Tracer().trace(network)
    except Exception:  # a network may do anything
        return
    called = Counter(node.target for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        if node.op != "call_module" or called[node.target] > 1 or len(node.args) != 1:
            continue
        before = node.args[0]
        if (
            not isinstance(before, fx.Node)
            or before.op != "call_module"
            or called[before.target] > 1
            or len(before.users) != 1
        ):
            continue
        names = str(before.target), str(node.target)
        first, second = map(network.get_submodule, names)
        plain = type(first) is nn.Conv2d and type(second) is nn.BatchNorm2d
        if plain and second.track_running_stats and not any(map(_hooked, (first, second))):
            yield names


def _hooked(module: nn.Module) -> bool:
    """Whether something else happens when it's called (parametrisations, pruning)."""
    return bool(module._forward_hooks or module._forward_pre_hooks) or hasattr(
        module, "parametrizations"
    )


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    """The names of the module's children that fold: convolution, batch norm."""
    if isinstance(module, nn.Sequential):
        children = list(module.named_children())
        return [
            (name, behind)
            for (name, first), (behind, second) in pairwise(children)
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d)
        ]
    return list(_PAIRS.get(type(module), ()))


def _fold(owner: nn.Module, convolution: str, other: nn.Module, norm: str) -> None:
    first, second = getattr(owner, convolution), getattr(other, norm)
    if isinstance(second, nn.Identity):  # folded before
        return
    setattr(owner, convolution, fuse_conv_bn_eval(first, second))
    setattr(other, norm, nn.Identity())
