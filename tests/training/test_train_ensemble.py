import json
from pathlib import Path

import numpy as np
import pytest
import tiny_training as tiny
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import save_onnx
from PIL import Image
from torch import Tensor, nn

from hw1.cli import main
from hw1.core.errors import InputError
from hw1.core.preprocessing import Preprocessing
from hw1.models import registry
from hw1.models.checkpoints import save
from hw1.models.store import Store
from hw1.training.ensemble import train_ensemble
from hw1.training.greedy import Labels, Votes, accuracy, cross_validate, select


def votes_of(rates: list[float], images: int = 400, seed: int = 0) -> tuple[Votes, Labels]:
    """Logits of members that are right so often, their mistakes independent."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, images)
    votes = random.normal(0, 1, (len(rates), images, 10))
    for member, rate in enumerate(rates):
        right = random.random(images) < rate
        votes[member, np.arange(images)[right], labels[right]] += 4
    return votes, labels


def test_independent_members_help_each_other() -> None:
    votes, labels = votes_of([0.7, 0.7, 0.7, 0.0])
    counts = select(votes, labels, 13, logits=True)
    assert (counts[:3] > 0).all()
    assert accuracy(votes, counts, labels) > 0.8
    worth = cross_validate(votes, labels, 5, 0, lambda v, y: select(v, y, 13, logits=True))
    assert worth.selected > worth.single + 0.05


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.1, 0.9), min_size=1, max_size=4), st.booleans(), st.integers(0, 9))
def test_the_choice_is_never_worse_than_its_best_member(
    rates: list[float], logits: bool, seed: int
) -> None:
    votes, labels = votes_of(rates, 60, seed)
    if not logits:
        powers = np.exp(votes)
        votes = powers / powers.sum(2, keepdims=True)
    counts = select(votes, labels, 6, logits=logits)
    assert 1 <= counts.sum() <= 6
    alone = max(accuracy(votes[[m]], np.ones(1, np.int64), labels) for m in range(len(rates)))
    assert accuracy(votes, counts, labels) >= alone


def test_cross_validation_does_not_see_what_was_fitted() -> None:
    # Members that know nothing: the best of many looks good on the images it was chosen on.
    votes, labels = votes_of([0.0] * 30, 100)
    fitted = accuracy(votes, select(votes, labels, 13, logits=True), labels)
    worth = cross_validate(votes, labels, 5, 0, lambda v, y: select(v, y, 13, logits=True))
    assert fitted > worth.selected + 0.05


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Checkpoints of two small members."""
    for member in ("resnet152", "densenet161"):
        monkeypatch.setitem(registry.CLASSIFIERS, member, tiny.TinyClassifier)
        torch.manual_seed(len(member))
        network = tiny.TinyClassifier().eval()
        save(network, tmp_path / f"{member}.safetensors", member, Preprocessing(size=32), {})
    tiny.write_photos(tmp_path / "data" / "val_50", 2)
    return tmp_path


class ByColour(tiny.TinyClassifier):
    """Knows the class of tiny's photos by their colour, of images with ``side`` pixels alone."""

    def __init__(self, classes: int = 50) -> None:
        super().__init__(classes)
        self.side = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        labels = torch.arange(50)
        colours = torch.stack([labels % 4, labels // 4 % 4, labels // 16], 1) * 70 + 20
        seen = images.mean((2, 3)) * 255
        logits: Tensor = -torch.cdist(seen, colours.float()) + 0 * self.side
        wrong = images.shape[2] != int(self.side)
        return logits.roll(1, 1) if wrong else logits


@pytest.fixture
def unequal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """resnet152, which is always right at its 48 pixels, and densenet161, which never is."""
    for member, size, side in (("resnet152", 48, 48), ("densenet161", 32, 0)):
        monkeypatch.setitem(registry.CLASSIFIERS, member, ByColour)
        network = ByColour().eval()
        network.side.data.fill_(side)
        save(network, tmp_path / f"{member}.safetensors", member, Preprocessing(size=size), {})
    tiny.write_photos(tmp_path / "data" / "val_50", 1)
    return tmp_path


@pytest.mark.parametrize("vote", ["logits", "probabilities"])
def test_weights_and_accuracies_are_their_members(unequal: Path, vote: str) -> None:
    words = ["train", "ensemble", unequal / "data", "--weights", unequal, "--vote", vote, "--json"]
    done = CliRunner().invoke(main, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["singles"] == {"resnet152": 1.0, "densenet161": 0.0}
    assert set(report["weights"]) == {"resnet152"}
    assert (report["fitted"], report["vote"], report["images"]) == (1.0, vote, 50)
    ensemble = Store(unequal).ensemble()
    assert dict(zip(ensemble.members, ensemble.vote_weights, strict=True)) == report["weights"]
    assert ensemble.vote == vote


def test_the_table_names_the_file(folder: Path) -> None:
    other = folder / "other[b].toml"
    words = ["train", "ensemble", folder / "data", "--weights", folder, "--output", other]
    done = CliRunner().invoke(main, [*map(str, words), "--vote", "logits"])
    assert done.exit_code == 0, done.stderr
    assert "by cross-validation" in done.stdout
    assert f"written to {other}\n" in done.stdout
    assert 'vote = "logits"' in other.read_text()


def test_images_of_any_size_are_read(folder: Path) -> None:
    path = folder / "data" / "val_50" / "3_x.png"
    Image.new("RGB", (30, 20)).save(path)
    assert train_ensemble(folder / "data", folder, None, print).images == 101


def test_bad_input(folder: Path) -> None:
    data = folder / "data" / "val_50"
    with pytest.raises(InputError, match="no member 'resnet151': did you mean resnet152"):
        train_ensemble(data, folder, ["resnet151"], print)
    with pytest.raises(InputError, match="no checkpoint of vgg16"):
        train_ensemble(data, folder, ["vgg16"], print)
    with pytest.raises(InputError, match="fewer than --folds 101"):
        train_ensemble(data, folder, None, print, folds=101)
    with pytest.raises(InputError, match="no such folder"):
        train_ensemble(folder / "none", folder, None, print)
    with pytest.raises(InputError, match="fcn8s is a segmenter: expected among"):
        train_ensemble(data, folder, ["resnet152", "fcn8s"], print)
    said: list[str] = []
    with pytest.raises(InputError, match="nodir is no folder"):
        train_ensemble(data, folder, None, said.append, output=folder / "nodir" / "e.toml")
    with pytest.raises(InputError, match="found a folder"):
        train_ensemble(data, folder, None, said.append, output=folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.access", lambda path, mode: False)
        with pytest.raises(InputError, match="that you may write to"):
            train_ensemble(data, folder, None, said.append)
    assert not said  # before anything was scored
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="no images"):
        train_ensemble(folder / "empty", folder, None, print)


def test_files_of_any_network(tmp_path: Path) -> None:
    tiny.write_photos(tmp_path / "val_50", 2)
    for name in ("a.onnx", "b.onnx"):
        save_onnx(tmp_path / name, classes=50)
    report = train_ensemble(tmp_path, tmp_path, None, print, folds=2, rounds=2)
    assert set(report.singles) == {"a.onnx", "b.onnx"}
    fitted = Store(tmp_path).ensemble()
    assert set(fitted.members) <= {"a.onnx", "b.onnx"}
    report = train_ensemble(tmp_path, tmp_path, ["b.onnx"], print, folds=2, rounds=2)
    assert Store(tmp_path).ensemble().members == ("b.onnx",)
    with pytest.raises(InputError, match=r"no member 'c'.*; files in .*: a.onnx, b.onnx"):
        train_ensemble(tmp_path, tmp_path, ["c"], print)
