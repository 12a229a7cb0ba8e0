"""Convolutions laid out once for a CPU, with what follows them computed along.

torch's eager convolution brings its weights into the order that oneDNN wants in each call, and
passes over its output once more for a ReLU, again for a residual's sum. These call the operators
that torch.compile generates calls of on CPUs: the weights are reordered here, once, and ReLU and
sum are done where the output is still in a register. The results are the same but for rounding.
"""

import copy
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ._torchvision import models
from .fold import has_known_structure

_Bottleneck = models.resnet.Bottleneck
_DenseLayer = models.densenet._DenseLayer


class PackedConv2d(nn.Module):
    """A Conv2d for inference, its weights packed for inputs of the shape (N, C, H, W).

    Other shapes give the same results, perhaps less fast. With ``relu``, a ReLU behind it.
    """

    def __init__(self, convolution: nn.Conv2d, shape: torch.Size, *, relu: bool) -> None:
        super().__init__()
        self.geometry = (
            [int(pad) for pad in convolution.padding],
            list(convolution.stride),
            list(convolution.dilation),
            convolution.groups,
        )
        self.relu = relu
        self.bias = convolution.bias
        self.packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
            convolution.weight, *self.geometry, list(shape)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """The convolution of (N, C, H, W), and its ReLU."""
        after = "relu" if self.relu else "none"
        outputs: Tensor = torch.ops.mkldnn._convolution_pointwise(
            inputs, self.packed, self.bias, *self.geometry, after, [], ""
        )
        return outputs

    def plus(self, inputs: Tensor, other: Tensor) -> Tensor:
        """The ReLU of the convolution and ``other`` added up."""
        outputs: Tensor = torch.ops.mkldnn._convolution_pointwise(
            inputs, other, self.packed, self.bias, *self.geometry, "add", 1.0, "relu", [], ""
        )
        return outputs


class PackedBottleneck(nn.Module):
    """torchvision's Bottleneck, its batch norms folded, of packed convolutions."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.before = nn.Sequential(block.conv1, block.conv2)
        self.last: PackedConv2d = block.conv3
        self.downsample: nn.Module | None = block.downsample

    def forward(self, inputs: Tensor) -> Tensor:
        """See torchvision."""
        other = inputs if self.downsample is None else self.downsample(inputs)
        return self.last.plus(self.before(inputs), other)


def pack(network: nn.Module, example: Tensor, batch_size: int) -> nn.Module:
    """Pack a network's convolutions, in place, for ``batch_size`` inputs like ``example``'s one.

    For a network in eval mode, on a CPU, whose batch norms are folded (see ``fold``), in the
    precision and memory layout that it will run in. Returns the network. Where this torch or CPU
    lacks the operators, it stays as it is; so does one of a structure that we don't know where
    its output for the example would be another.
    """
    if not _available(example.dtype) or not any(_named_convolutions(network)):
        return network
    if has_known_structure(network):
        return _pack(network, example, batch_size)
    try:
        packed = _pack(copy.deepcopy(network), example, batch_size)
        noise = torch.Generator().manual_seed(0)
        probe = torch.rand(example.shape, generator=noise).to(example)
        with torch.inference_mode():
            same = _alike(network(probe), packed(probe))
    except (AttributeError, RuntimeError, TypeError, ValueError):  # its code looks into its layers
        return network
    return packed if same else network


def _alike(before: Any, after: Any) -> bool:
    """Whether two outputs are equal but for rounding, relative to their largest value."""
    if isinstance(before, Mapping):
        return all(_alike(value, after[name]) for name, value in before.items())
    before, after = before.float(), after.float()
    most = float(before.abs().max()) * (1e-3 if after.dtype == torch.float32 else 3e-2)
    return bool(torch.isfinite(after).all()) and float((before - after).abs().max()) <= most


def _pack(network: nn.Module, example: Tensor, batch_size: int) -> nn.Module:
    known = has_known_structure(network)
    shapes = {
        name: torch.Size((batch_size, *shape[1:]))
        for name, shape in _shapes(network, example).items()
    }
    fused = set(
        _take_out_relus(network, shapes.keys(), known)
    )  # all of it, before they are replaced
    for name, convolution in list(_named_convolutions(network)):
        if name not in shapes:
            continue
        owner, _, last = name.rpartition(".")
        packed = PackedConv2d(convolution, shapes[name], relu=name in fused)
        setattr(network.get_submodule(owner), last, packed)
    for name, block in list(network.named_modules()):
        if type(block) is _Bottleneck and _is_folded(block):
            owner, _, last = name.rpartition(".")
            setattr(network.get_submodule(owner), last, PackedBottleneck(block))
    return network


def _available(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available() or not hasattr(  # type: ignore[no-untyped-call]
        torch.ops.mkldnn, "_reorder_convolution_weight"
    ):
        return False
    return dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _named_convolutions(network: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    for name, module in network.named_modules():
        plain = type(module) is nn.Conv2d and module.padding_mode == "zeros"
        if plain and not isinstance(module.padding, str):
            yield name, module


def _shapes(network: nn.Module, example: Tensor) -> dict[str, torch.Size]:
    """The shape of each convolution's input."""
    shapes: dict[str, torch.Size] = {}

    def note(name: str) -> torch.utils.hooks.RemovableHandle:
        module = network.get_submodule(name)
        return module.register_forward_pre_hook(
            lambda _, inputs: shapes.__setitem__(name, inputs[0].shape)
        )

    handles = [note(name) for name, _ in _named_convolutions(network)]
    with torch.inference_mode():
        network(example)
    for handle in handles:
        handle.remove()
    return shapes


def _is_folded(block: Any) -> bool:
    return all(isinstance(getattr(block, f"bn{index}"), nn.Identity) for index in (1, 2, 3))


def _take_out_relus(network: nn.Module, names: Collection[str], known: bool) -> Iterator[str]:
    """The convolutions that a ReLU follows, which is taken out, in place.

    ``names`` are those that can do it themselves: all of torchvision's blocks can. In a network
    that isn't ``known``, only its blocks: a Sequential's layers may be called one by one.
    """
    for name, module in list(network.named_modules()):
        prefix = f"{name}." if name else ""
        if type(module) is _Bottleneck and _is_folded(module):
            yield from (prefix + "conv1", prefix + "conv2")
        elif not known:
            continue
        elif isinstance(module, _DenseLayer):
            module.relu2 = nn.Identity()
            yield prefix + "conv1"
        elif isinstance(module, models.ResNet):
            module.relu = nn.Identity()
            yield prefix + "conv1"
        elif isinstance(module, nn.Sequential):
            convolution = None
            for child, layer in list(module.named_children()):
                if isinstance(layer, nn.Conv2d):
                    convolution = child if prefix + child in names else None
                elif isinstance(layer, nn.ReLU) and convolution is not None:
                    setattr(module, child, nn.Identity())
                    yield prefix + convolution
                if not isinstance(layer, nn.Conv2d | nn.Identity):
                    convolution = None
