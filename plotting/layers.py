"""What a layer of a network gives for images."""

from difflib import get_close_matches
from typing import TYPE_CHECKING

from ..core.errors import InputError
from ..core.numerics import Device
from ..core.preprocessing import Preprocessing, normalise
from ..core.records import Float32, UInt8
from ..core.text import some

if TYPE_CHECKING:
    from torch import Tensor, nn


def find_layer(network: "nn.Module", layer: str, member: str) -> "nn.Module":
    """The layer of this name; InputError with the nearest ones where there is none."""
    layers: dict[str, nn.Module] = {
        name: module for name, module in network.named_modules() if name
    }
    if layer in layers:
        return layers[layer]
    last = [name for name, module in layers.items() if not list(module.children())][-8:]
    near = get_close_matches(layer, layers, n=5) or last
    raise InputError(
        f"--layer {layer}: {member} has no such layer; near it are {some(near)}; "
        f"the last are {', '.join(last)} (hw1 models {member} shows all)"
    )


class LayerOutputs:
    """What a layer gives, float32 (n, D), for uint8 (n, S, S, 3) RGB images.

    An output with height and width is averaged over these. A hook catches it, and not torchvision's
    create_feature_extractor: that takes networks alone that torch.fx can trace, and its nodes have
    other names than ``hw1 models MEMBER`` shows.
    """

    def __init__(
        self,
        network: "nn.Module",
        layer: "nn.Module",
        preprocessing: Preprocessing,
        device: Device,
    ) -> None:
        import torch

        # Channels last is twice as fast on a CPU.
        self._network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = device
        self._preprocessing = preprocessing
        self._caught: list[Tensor] = []
        layer.register_forward_hook(self._catch)

    def __call__(self, images: UInt8) -> Float32:
        """Run the network; a layer that it calls several times gives its last output."""
        import torch

        with torch.inference_mode():
            pixels = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2)
            self._network(normalise(pixels, self._preprocessing))
            output = self._caught.pop()
            self._caught.clear()
            flat = output.flatten(2).mean(2) if output.ndim > 2 else output
            values: Float32 = flat.cpu().numpy()
            return values

    def _catch(self, layer: "nn.Module", inputs: object, output: "Tensor") -> None:
        # A copy: the next layer may be a ReLU that works in place.
        self._caught.append(output.clone())
