"""Checkpoints from elsewhere: their wrappers, prefixes, classes, and what is refused."""

import argparse
import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from networks import PETS, random_network, save_network, save_onnx
from torch import Tensor, nn

from hw1.cli import main
from hw1.core.classes import REFERENCE_CLASSIFIER
from hw1.core.errors import InputError
from hw1.core.preprocessing import IMAGENET_MEAN, Preprocessing
from hw1.models.checkpoints import load, read_checkpoint
from hw1.models.importing import Given, guess, import_checkpoint

WORD = "timm:test_efficientnet"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return random_network(WORD, 3)


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def averaged(network: nn.Module) -> State:
    model = torch.optim.swa_utils.AveragedModel(network)
    state: State = model.state_dict()
    assert "n_averaged" in state
    return state


def zeros(network: nn.Module, prefix: str) -> State:
    return prefixed({n: torch.zeros_like(t) for n, t in network.state_dict().items()}, prefix)


class Lightning(nn.Module):
    """As people write one: the network under a name of its own, beside a loss with tensors."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.backbone = network
        self.criterion = nn.CrossEntropyLoss(weight=torch.ones(3))


WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "bare": lambda n: n.state_dict(),
    **{
        key: functools.partial(lambda key, n: {key: n.state_dict(), "epoch": 3}, key)
        for key in ("state_dict", "model", "model_state_dict", "net", "ema", "module", "anything")
    },
    "nested": lambda n: {"model": {"state_dict": n.state_dict()}},
    "DataParallel": lambda n: prefixed(n.state_dict(), "module."),
    "compiled": lambda n: prefixed(n.state_dict(), "_orig_mod."),
    "compiled, DataParallel": lambda n: prefixed(n.state_dict(), "module._orig_mod."),
    "model.": lambda n: prefixed(n.state_dict(), "model."),
    "net.": lambda n: {"state_dict": prefixed(n.state_dict(), "net.")},
    "SWA": averaged,
    "Lightning": lambda n: {
        "state_dict": Lightning(n).state_dict(),
        "pytorch-lightning_version": "2.5.0",
        "hyper_parameters": {"lr": 0.1},
        "optimizer_states": [torch.optim.SGD(n.parameters(), 0.1).state_dict()],
    },
    "beside an average": lambda n: {
        "model": n.state_dict(),
        "model_ema": averaged(nn.Linear(1, 1)),
        "epoch": 3,
    },
    "Lightning, beside an average": lambda n: {
        "state_dict": {**prefixed(n.state_dict(), "model."), **zeros(n, "average.module.")}
    },
    "options and scores": lambda n: {
        "model": n.state_dict(),
        "args": argparse.Namespace(lr=0.1, output=Path("x")),
        "best": np.float64(0.8),
        "history": np.zeros(3, np.float32),
    },
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_each_wrapper_is_read(wrapper: str, network: nn.Module, tmp_path: Path) -> None:
    torch.save(WRAPPERS[wrapper](network), tmp_path / "best.pth")
    made = import_checkpoint(
        tmp_path / "best.pth", tmp_path / "my.safetensors", Given(architecture=WORD, classes=PETS)
    )
    found = load(made.checkpoint)
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(found(images), network(images))
    assert made.checkpoint.classes == PETS
    left_out = {
        "Lightning": ("criterion.weight",),
        "beside an average": ("model_ema (another state dict)",),
        "Lightning, beside an average": tuple(zeros(network, "average.module.")),
    }
    assert made.left_out == left_out.get(wrapper, ())


def test_several_state_dicts_are_named(network: nn.Module, tmp_path: Path) -> None:
    state = network.state_dict()
    torch.save({"student": state, "teacher": state, "epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"several state dicts \(student, teacher\): save the one"):
        import_checkpoint(tmp_path / "a.pth", None, Given(architecture=WORD))


@pytest.mark.parametrize(
    ("word", "size", "message"),
    [
        (
            "torchvision:squeezenet1_1",
            16,
            "takes no images of 16 × 16 pixels .*: give another --si",
        ),
        (
            "torchvision:vit_b_32",
            230,
            "can't be built for images of 230 × 230 pixels: .*patch size",
        ),
    ],
)
def test_a_size_that_the_network_cannot_take_is_refused(
    word: str, size: int, message: str, tmp_path: Path
) -> None:
    from hw1.models.registry import build

    cut = {"a": torch.ones(1)}  # a transformer is refused before its tensors are looked at
    state = cut if "vit" in word else build(word, classes=3).state_dict()
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(InputError, match=message):
        import_checkpoint(
            tmp_path / "a.pth", None, Given(architecture=word, changes={"size": size})
        )
    assert not (tmp_path / "a.safetensors").exists()


def test_a_network_whose_layout_has_versions_is_read(tmp_path: Path) -> None:
    word = "torchvision:mnasnet0_5"
    network = random_network(word, 3)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "a.pth")
    made = import_checkpoint(
        tmp_path / "a.pth", None, Given(architecture=word, changes={"size": 32})
    )
    images = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(load(made.checkpoint)(images), network(images))


def test_other_kinds_of_numbers_are_refused(network: nn.Module, tmp_path: Path) -> None:
    small = {n: t.to(torch.float8_e4m3fn) for n, t in network.state_dict().items()}
    torch.save(small, tmp_path / "a.pth")
    with pytest.raises(InputError, match="float8_e4m3fn, expected floating point of 16"):
        import_checkpoint(tmp_path / "a.pth", None, Given(architecture=WORD))


def test_one_file_says_all(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "best.pth")
    (tmp_path / "names.txt").write_text("cat\ndog\nfox\n")
    options = ["--arch", WORD, "--classes", tmp_path / "names.txt", "--size", "32"]
    done = CliRunner().invoke(
        main,
        [str(w) for w in ["models", "import", tmp_path / "best.pth", tmp_path / "my.safetensors"]]
        + [str(word) for word in options],
    )
    assert done.exit_code == 0, done.output
    assert "3 classes" in done.stderr
    found = read_checkpoint(tmp_path / "my.safetensors")
    assert (found.architecture, found.task, found.classes) == (WORD, "classify", PETS)
    assert found.preprocessing.size == 32
    assert found.preprocessing.resize == 34  # 160 of 168, as the library has it
    assert found.member == "my.safetensors"
    shown = CliRunner().invoke(main, ["models", str(found.path)])
    assert "3: cat, dog, fox" in shown.output
    told = CliRunner().invoke(main, ["models", str(found.path), "--json"])
    assert json.loads(told.stdout)["classes"] == ["cat", "dog", "fox"]


def test_the_last_layer_tells_the_number_of_classes(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "a.pth")
    made = import_checkpoint(tmp_path / "a.pth", None, Given(architecture=WORD)).checkpoint
    assert made.path == tmp_path / "a.safetensors"
    assert made.classes.names == ("0", "1", "2")
    with pytest.raises(InputError, match=r"its last layer has 3 outputs, and --classes 50 names"):
        import_checkpoint(
            tmp_path / "a.pth",
            tmp_path / "b.safetensors",
            Given(architecture=WORD, classes=REFERENCE_CLASSIFIER),
        )
    assert not (tmp_path / "b.safetensors").exists()


def test_the_architecture_is_guessed_where_one_fits(tmp_path: Path) -> None:
    state = random_network("torchvision:mobilenet_v3_small", 3).state_dict()
    torch.save({"state_dict": prefixed(state, "module.")}, tmp_path / "a.pth")
    made = import_checkpoint(tmp_path / "a.pth", None, Given(classes=PETS)).checkpoint
    assert made.architecture == "torchvision:mobilenet_v3_small"
    assert made.preprocessing.size == 224


def test_a_preset_is_guessed_by_its_number_of_classes() -> None:
    from hw1.models.registry import tensors

    assert guess(tensors("vgg16")) == ["vgg16"]
    assert guess(tensors("resnet152")) == ["resnet152"]
    assert guess(tensors("resnet152", 12)) == ["torchvision:resnet152"]


def test_nothing_fits(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="fit none of ours: say it, as in --arch torchvision:"):
        import_checkpoint(tmp_path / "a.pth", None, Given())
    with pytest.raises(InputError, match=r"doesn't fit torchvision:resnet18: it lacks fc\."):
        import_checkpoint(tmp_path / "a.pth", None, Given(architecture="torchvision:resnet18"))


def test_auxiliary_heads_are_left_out(tmp_path: Path) -> None:
    from hw1.models._torchvision import models

    whole = models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3
    )
    state = {**whole.state_dict(), "aux_classifier.0.weight": torch.ones(2)}
    word = "torchvision:fcn_resnet50"
    from hw1.models.importing import _useful

    assert _useful(state, word)[1] == ["aux_classifier.0.weight"]


def test_torchscript_and_pickled_modules_are_refused_with_the_way_out(
    network: nn.Module, tmp_path: Path
) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(InputError) as caught:
        import_checkpoint(tmp_path / "whole.pt", None, Given(architecture=WORD))
    text = str(caught.value)
    assert "holds more than tensors (torch.nn.modules.linear.Linear)" in text
    assert text.splitlines()[1:] == [
        '  model = torch.load("whole.pt", map_location="cpu", weights_only=False)'
        '  # a dict? then its ["model"]',
        '  torch.save(model.state_dict(), "whole_state.pth")',
    ]


def test_what_is_given_goes_before_the_librarys(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "a.pth")
    options = "--squash --size 40x48 --interpolation lanczos --mean 0.5 --std 0.1,0.2,0.3 "
    options += "--white 255 --order bgr"
    words = ["models", "import", str(tmp_path / "a.pth"), "--arch", WORD, *options.split()]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    found = read_checkpoint(tmp_path / "a.safetensors").preprocessing
    assert found == Preprocessing(
        (40, 48), mean=(0.5, 0.5, 0.5), std=(0.1, 0.2, 0.3), resize=None, interpolation="lanczos",
        white=255, order="bgr",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "big"], "expected pixels"),
        (["--mean", "1,2"], "expected three numbers"),
        (["--size", "0"], "size must be a whole number"),
        (["--squash", "--resize", "40"], "--squash crops nothing"),
        (["--member", "vgg16"], "give one of them"),
    ],
)
def test_bad_options(options: list[str], message: str, network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "a.pth")
    done = CliRunner().invoke(
        main, ["models", "import", str(tmp_path / "a.pth"), "--arch", WORD, *options]
    )
    assert done.exit_code != 0
    assert message in done.output or message in str(done.exception)


def test_an_onnx_file_gets_metadata(tmp_path: Path) -> None:
    source = save_onnx(tmp_path / "a.onnx", shape=("n", 3, "h", "w"))
    with pytest.raises(InputError, match="takes images of any size: say which"):
        read_checkpoint(source)
    made = import_checkpoint(
        source, tmp_path / "b.onnx", Given(classes=PETS, changes={"size": 48})
    ).checkpoint
    assert made.classes == PETS
    assert made.preprocessing.size == 48
    assert made.preprocessing.mean == IMAGENET_MEAN
    again = import_checkpoint(
        made.path, tmp_path / "c.onnx", Given(changes={"resize": None})
    ).checkpoint
    assert (again.classes, again.preprocessing.resize) == (PETS, None)


def test_three_of_an_architecture_are_three_members(tmp_path: Path) -> None:
    from hw1.models.checkpoints import agreed_classes
    from hw1.models.store import Store

    for seed in range(2):
        save_network(tmp_path / f"seed{seed}.safetensors", WORD)
    (tmp_path / "ensemble.toml").write_text(
        '[weights]\n"seed0.safetensors" = 1\n"seed1.safetensors" = 2\n'
    )
    store = Store(tmp_path)
    ensemble = store.ensemble()
    assert ensemble.members == ("seed0.safetensors", "seed1.safetensors")
    found = [store.checkpoint(name) for name in ensemble.members]
    assert [each.member for each in found] == list(ensemble.members)
    assert agreed_classes(found) == PETS
    assert store.ensemble(["seed1.safetensors"]).vote_weights == (2.0,)
    other = dataclasses.replace(found[1], classes=REFERENCE_CLASSIFIER)
    with pytest.raises(InputError, match=r"can't vote together, .* 3 classes, and 50"):
        agreed_classes([found[0], other])


@pytest.mark.filterwarnings("ignore")  # of TorchScript, that it's old
@pytest.mark.parametrize("kind", ["a whole module", "TorchScript"])
def test_the_two_lines_that_a_refusal_prints_save_what_is_read(
    kind: str, network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == "TorchScript":
        torch.jit.save(torch.jit.trace(network, torch.zeros(1, 3, 32, 32)), "best.pt")
    else:
        torch.save(network, "best.pt")
    with pytest.raises(InputError) as caught:
        import_checkpoint(Path("best.pt"), None, Given(architecture=WORD))
    lines = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert len(lines) == 2
    exec("\n".join(["import torch", *lines]), {})
    made = import_checkpoint(Path("best_state.pth"), None, Given(architecture=WORD, classes=PETS))
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(load(made.checkpoint)(images), network(images))


def test_safetensors_without_metadata_are_read(network: nn.Module, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(prefixed(network.state_dict(), "module."), tmp_path / "a.safetensors")
    made = import_checkpoint(
        tmp_path / "a.safetensors", tmp_path / "b.safetensors", Given(architecture=WORD)
    )
    assert len(made.checkpoint.classes) == 3
