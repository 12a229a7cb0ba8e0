"""hw1 train soup: the mean of several checkpoints' weights."""

import json
from pathlib import Path

import torch
from click.testing import CliRunner, Result

from hw1.cli import main
from hw1.core.preprocessing import Preprocessing
from hw1.models import checkpoints
from hw1.models.collapse import collapse
from hw1.models.registry import build


def soup(*words: object) -> Result:
    return CliRunner().invoke(main, ["train", "soup", *map(str, words)])


def checkpoint(folder: Path, seed: int, member: str = "vgg16", size: int | None = 32) -> Path:
    torch.manual_seed(seed)
    folder.mkdir(exist_ok=True)
    path = folder / f"{member}.safetensors"
    network = build(member) if size is None else collapse(build(member), size)
    checkpoints.save(network, path, member, Preprocessing(size), {"recipe": f"seed {seed}"})
    return path


def test_a_soup_is_the_mean(tmp_path: Path) -> None:
    paths = [checkpoint(tmp_path / name, seed) for seed, name in enumerate("abc")]
    done = soup(*paths, "--output", tmp_path / "mean.safetensors")
    assert done.exit_code == 0, done.output
    made = checkpoints.read_checkpoint(tmp_path / "mean.safetensors")
    assert (made.member, made.preprocessing) == ("vgg16", Preprocessing(32))
    assert made.metadata["recipe"] == (
        "hw1 train soup a/vgg16.safetensors b/vgg16.safetensors c/vgg16.safetensors"
    )
    of = [(each["digest"], each["recipe"]) for each in json.loads(made.metadata["ingredients"])]
    assert of == [(checkpoints.read_checkpoint(p).digest, f"seed {n}") for n, p in enumerate(paths)]
    states = [checkpoints.load_state(checkpoints.read_checkpoint(path)) for path in paths]
    for name, tensor in checkpoints.load_state(made).items():
        mean = torch.stack([state[name].float() for state in states]).mean(0)
        torch.testing.assert_close(tensor.float(), mean, rtol=1e-3, atol=1e-6)


def test_a_soup_of_a_soup_tells_all_its_recipes(tmp_path: Path) -> None:
    paths = [checkpoint(tmp_path / name, seed) for seed, name in enumerate("ab")]
    (tmp_path / "inner").mkdir()
    inner = tmp_path / "inner" / "vgg16.safetensors"
    for words in ((*paths, "--output", inner), (inner, paths[1], "--output", tmp_path / "outer")):
        assert soup(*words).exit_code == 0
    metadata = checkpoints.read_checkpoint(tmp_path / "outer", "vgg16").metadata
    first, second = json.loads(metadata["ingredients"])
    assert [each["recipe"] for each in first["ingredients"]] == ["seed 0", "seed 1"]
    assert second["recipe"] == "seed 1"
    assert "ingredients" not in second


def test_what_another_program_calls_ingredients_is_left_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "vgg16.safetensors"
    checkpoints.save(build("vgg16"), path, "vgg16", Preprocessing(32), {"ingredients": "a merge"})
    output = tmp_path / "soup.safetensors"
    done = soup(path, path, "--output", output)
    assert done.exit_code == 0, done.output
    told = json.loads(checkpoints.read_checkpoint(output).metadata["ingredients"])
    assert [list(each) for each in told] == [["digest", "recipe"]] * 2


def test_what_makes_no_soup(tmp_path: Path) -> None:
    vgg16 = checkpoint(tmp_path / "a", 0)
    fcn8s = checkpoint(tmp_path / "a", 0, "fcn8s", None)
    output = tmp_path / "out.safetensors"
    for words, error in (
        ((vgg16,), "two checkpoints or more"),
        ((vgg16, fcn8s), "expected one member's"),
        ((vgg16, tmp_path / "none.safetensors"), "none.safetensors"),
    ):
        done = soup(*words, "--output", output)
        assert done.exit_code == 2
        assert error in done.stderr
        assert not output.exists()
    (tmp_path / "l.csv").touch()
    for place, error in ((tmp_path / "l.csv" / "z", "you may write to"), (tmp_path, "a folder")):
        done = soup(vgg16, vgg16, "--output", place)
        assert (done.exit_code, error in done.stderr) == (2, True)
    output.write_bytes(b"mine")
    assert "exists" in soup(vgg16, vgg16, "--output", output).stderr
    assert output.read_bytes() == b"mine"


def test_a_soup_for_inputs_of_other_sizes(tmp_path: Path) -> None:
    small = checkpoint(tmp_path / "a", 0, "vgg19_bn_2", 32)
    large = checkpoint(tmp_path / "b", 0, "vgg19_bn_2", 64)
    done = soup(small, large, "--output", tmp_path / "out.safetensors")
    assert done.exit_code == 2
    assert "other sizes" in done.stderr
