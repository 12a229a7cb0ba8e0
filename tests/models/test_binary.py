"""Networks with one output, a sigmoid's, are two classes."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from networks import random_network
from PIL import Image

from hw1.cli import main
from hw1.core.classes import Classes
from hw1.core.errors import InputError
from hw1.models.checkpoints import load
from hw1.models.importing import Given, beside, import_checkpoint

PASSED = Classes(("good", "scratched"))


@pytest.mark.parametrize(
    ("word", "size"),
    [
        ("timm:test_efficientnet", 32),
        ("timm:test_vit", 160),
        ("torchvision:mobilenet_v3_small", 32),
        ("torchvision:squeezenet1_1", 64),  # a convolution at the end, and a ReLU
        ("torchvision:lraspp_mobilenet_v3_large", None),  # two convolutions, added up
    ],
)
def test_one_output_becomes_two_with_the_same_probabilities(
    word: str, size: int | None, tmp_path: Path
) -> None:
    network = random_network(word, 1)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "a.pth")
    given = Given(architecture=word, changes={"size": size} if size else None, classes=PASSED)
    made = import_checkpoint(tmp_path / "a.pth", None, given)
    assert made.sigmoid
    assert made.checkpoint.classes == PASSED
    images = torch.rand(2, 3, size or 64, size or 64)
    with torch.inference_mode():
        expected, found = network(images), load(made.checkpoint)(images)
    if size is None:
        expected, found = expected["out"], found["out"]
    assert not found[:, 0].any()
    torch.testing.assert_close(found.softmax(1)[:, 1], expected.sigmoid()[:, 0])
    assert torch.equal(found.argmax(1), (expected[:, 0] > 0).long())
    assert beside(tmp_path / "a.pth", made.checkpoint)[1] is not None


def test_the_command_says_which_is_which(tmp_path: Path) -> None:
    word = "torchvision:mobilenet_v3_small"
    torch.save(random_network(word, 1).state_dict(), tmp_path / "a.pth")
    (tmp_path / "names.txt").write_text("good\nscratched\n")
    (tmp_path / "in").mkdir()
    Image.new("RGB", (40, 30), (200, 30, 60)).save(tmp_path / "in/a.png")
    words = ["models", "import", tmp_path / "a.pth", "--classes", tmp_path / "names.txt"]
    done = CliRunner().invoke(main, [str(word) for word in [*words, "--size", 32]])
    assert done.exit_code == 0, done.output
    assert "a sigmoid's: good below 0.5, scratched above" in done.stderr
    words = ["batch", "classify", tmp_path / "in", tmp_path / "out.csv", "--columns", "name"]
    words += ["--model", tmp_path / "a.safetensors", "--engine", "inline"]
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out.csv").read_text().split(",")[-1].strip() in PASSED.names


def test_names_that_are_not_two_are_refused(tmp_path: Path) -> None:
    word = "timm:test_efficientnet"
    torch.save(random_network(word, 1).state_dict(), tmp_path / "a.pth")
    with pytest.raises(InputError, match="has one output, so two classes, and --classes 3 names"):
        import_checkpoint(
            tmp_path / "a.pth", None, Given(architecture=word, classes=Classes(("a", "b", "c")))
        )
