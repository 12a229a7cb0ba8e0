"""Small checkpoints of networks that aren't presets, for tests."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from hw1.core.classes import Classes
from hw1.core.preprocessing import Preprocessing
from hw1.models.checkpoints import save
from hw1.models.registry import build, class_axes

PETS = Classes(("cat", "dog", "fox"))
SMALL = Preprocessing(size=(24, 32), resize=32, interpolation="bicubic")


def random_network(word: str, classes: int) -> nn.Module:
    """A network whose labels vary from image to image: norms as after training, a wide head."""
    torch.manual_seed(0)
    network = build(word, classes=classes).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.1, 0.5)
    state = network.state_dict()
    with torch.no_grad():
        for name in class_axes(word):
            state[name].normal_()
    return network


def save_network(
    path: Path, word: str, preprocessing: Preprocessing = SMALL, classes: Classes = PETS
) -> Path:
    """Write a checkpoint of such a network."""
    save(random_network(word, len(classes)), path, word, preprocessing, {}, classes=classes)
    return path


def save_onnx(
    path: Path,
    *,
    shape: tuple[int | str, ...] = ("n", 3, 24, 32),
    classes: int = 3,
    kind: int = TensorProto.FLOAT,
    segments: bool = False,
    external: bool = False,
    inputs: int = 1,
    last: str = "Flatten",
    says: tuple[int | str, ...] | None = None,
) -> Path:
    """Write a convolution and a last layer, of random weights, as an ONNX file.

    ``last`` is the operation on a classifier's (n, classes, 1, 1), ``says`` the shape of the output
    in the file.
    """
    random = np.random.default_rng(0)
    images = [helper.make_tensor_value_info(f"image{i}", kind, shape) for i in range(inputs)]
    sizes = {"kernel": (8, 3, 3, 3), "last": (classes, 8, 1, 1)}
    weights = [
        numpy_helper.from_array(random.normal(size=size).astype(np.float32), name)
        for name, size in sizes.items()
    ]
    nodes = [
        helper.make_node("Cast", ["image0"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["float", "kernel"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["relu"]),
        *([] if segments else [helper.make_node("GlobalAveragePool", ["relu"], ["pooled"])]),
        helper.make_node("Conv", ["relu" if segments else "pooled", "last"], ["maps"]),
        *([helper.make_node("Softmax", ["maps"], ["soft"], axis=1)] if last == "Softmax" else []),
        helper.make_node(
            "Identity" if segments or last == "Identity" else "Flatten",
            ["soft" if last == "Softmax" else "maps"],
            ["logits"],
        ),
    ]
    if shape[-1] == 3:
        nodes[1:1] = [helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2])]
        nodes[2].input[0] = "planes"
    sides = [None, None] if segments else []
    shape_of_logits = says or [None, classes, *sides]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape_of_logits)
    graph = helper.make_graph(nodes, "net", images, [logits], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if external:
        onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    else:
        onnx.save(model, path)
    return path
