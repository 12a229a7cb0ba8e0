"""hw1 models: the list, one member, and import, through the command line."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from networks import save_onnx
from torch import Tensor, nn

from hw1.commands.models import models
from hw1.core.errors import InputError
from hw1.core.preprocessing import Preprocessing
from hw1.models import files
from hw1.models.checkpoints import load_state, read_checkpoint, save
from hw1.models.members import MEMBERS
from hw1.models.registry import CLASSIFIERS as CLASSIFIER_BUILDERS
from hw1.models.shipped import SHIPPED
from hw1.models.store import Store


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(models, [str(argument) for argument in arguments])
    if isinstance(result.exception, InputError):
        raise result.exception
    return result


class Tiny(nn.Module):
    """A vgg16 that costs nothing, in the registry's place of the real one."""

    def __init__(self, classes: int = 50) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.fc = nn.Sequential(nn.Linear(4, classes))


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[dict[str, Tensor]]:
    """The tiny vgg16's state dict, while that stands in the registry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CLASSIFIER_BUILDERS, "vgg16", Tiny)
        torch.manual_seed(0)
        yield Tiny().state_dict()


@pytest.fixture(scope="module")
def folder(tiny: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our vgg16, the reference's fcn8s (never loaded here), nothing else."""
    folder = tmp_path_factory.mktemp("weights")
    scores = json.dumps({"epoch": 3, "accuracy": 0.8312})
    path = folder / "vgg16.safetensors"
    save(tiny, path, "vgg16", Preprocessing(64), {"scores": scores, "recipe": "hw1 train …"})
    (folder / "fcn8s-best.pth").write_bytes(b"anything")
    return folder


@pytest.fixture(scope="module")
def old(tiny: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("old") / "old.pth"
    state = {f"module.{name}": tensor for name, tensor in tiny.items()}
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=False)
    return path


class TestList:
    def test_a_row_for_each_member(self, folder: Path) -> None:
        result = run("--weights", folder)
        assert result.exit_code == 0
        lines = {words[0]: words for line in result.stdout.splitlines() if (words := line.split())}
        digest = files.file_digest(folder / "vgg16.safetensors")[:12]
        parts = ["vgg16.safetensors", digest, "0.0", "MB", "14,858,866", "1", "accuracy", "0.8312"]
        assert lines["vgg16"][1:] == parts
        assert lines["fcn8s"][1] == "fcn8s-best.pth"
        assert lines["resnet152"][1:] == ["missing", "58,246,258"]
        assert set(MEMBERS) <= set(lines)
        assert result.stderr == ""

    def test_json(self, folder: Path) -> None:
        content = json.loads(run("--weights", folder, "--json").stdout)
        assert content["folder"] == str(folder)
        assert content["fault"] is None
        members = {row["name"]: row for row in content["members"]}
        assert list(members) == list(MEMBERS)
        assert members["vgg16"]["checkpoint"]["scores"]["accuracy"] == 0.8312
        assert members["vgg16"]["checkpoint"]["preprocessing"]["size"] == 64
        assert members["vgg16"]["weight"] == 1.0
        assert members["resnet152"]["checkpoint"] is None
        assert members["fcn8s"]["parameters"] == 28_888_626

    def test_the_shipped_folder(self) -> None:
        content = json.loads(run("--json").stdout)
        members = {member["name"]: member for member in content["members"]}
        shipped = {path.stem for path in SHIPPED.glob("*.safetensors")}
        assert {name for name, member in members.items() if member["checkpoint"]} == shipped
        assert set(members) >= set(MEMBERS)

    def test_a_damaged_checkpoint_does_not_hide_the_others(self, tmp_path: Path) -> None:
        (tmp_path / "vgg16.safetensors").write_bytes(b"\x09" + bytes(7) + b'{"broken')
        (tmp_path / "fcn8s-best.pth").write_bytes(b"anything")
        result = run("--weights", tmp_path)
        assert result.exit_code == 0
        assert "damaged" in result.stdout
        assert "fcn8s-best.pth" in result.stdout
        assert "vgg16.safetensors is damaged" in result.stderr

    def test_a_bad_ensemble_is_reported(self, tmp_path: Path) -> None:
        (tmp_path / "vgg16-best.pth").write_bytes(b"anything")
        (tmp_path / "ensemble.toml").write_text("[weights]\nvgg61 = 1\n")
        result = run("--weights", tmp_path)
        assert result.exit_code == 0
        assert "did you mean vgg16" in result.stderr
        content = json.loads(run("--weights", tmp_path, "--json").stdout)
        assert "did you mean vgg16" in content["fault"]

    def test_ensembles_besides_the_default_are_listed(self, folder: Path, tmp_path: Path) -> None:
        shutil.copy(folder / "vgg16.safetensors", tmp_path)
        (tmp_path / "ensemble-alone.toml").write_text("[weights]\nvgg16 = 3\n")
        lines = run("--weights", tmp_path).stdout.splitlines()
        assert lines[-2:] == ["--ensemble best: vgg16 1", "--ensemble alone: vgg16 3"]
        found = json.loads(run("--weights", tmp_path, "--json").stdout)["ensembles"]
        assert found["alone"] == {"members": ["vgg16"], "vote_weights": [3], "vote": "logits"}

    def test_files_of_any_name(self, tmp_path: Path) -> None:
        save_onnx(tmp_path / "a.onnx")
        save_onnx(tmp_path / "b.onnx")
        (tmp_path / "c.safetensors").write_bytes(b"x")
        (tmp_path / "ensemble.toml").write_text('[weights]\n"b.onnx" = 2\n')
        result = run("--weights", tmp_path)
        lines = [line.split() for line in result.stdout.splitlines()[2:]]
        assert [line[:2] for line in lines] == [
            ["a.onnx", "onnx"], ["b.onnx", "onnx"], ["c.safetensors", "damaged"],
        ]  # fmt: skip
        assert lines[1][-1] == "2"
        assert "c.safetensors is damaged" in result.stderr
        files = json.loads(run("--weights", tmp_path, "--json").stdout)["members"]
        assert [(file["name"], file["weight"]) for file in files][:2] == [
            ("a.onnx", 0.0), ("b.onnx", 2.0),
        ]  # fmt: skip
        assert files[0]["checkpoint"]["architecture"] == "onnx"

    def test_no_such_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no folder"):
            run("--weights", tmp_path / "none")


class TestOne:
    def test_architecture_and_parameters(self, folder: Path) -> None:
        result = run("--weights", folder, "vgg16")
        assert "Linear(in_features=4, out_features=50" in result.stdout
        assert "14,858,866" in result.stdout
        assert "64 × 64, not normalised" in result.stdout
        assert "hw1 train …" in result.stdout

    def test_without_a_checkpoint(self, folder: Path) -> None:
        result = run("fcn32s", "--weights", folder)
        assert "ConvTranspose2d(1024, 7, kernel_size=(32, 32), stride=(32, 32))" in result.stdout
        assert "checkpoint    missing" in result.stdout

    @pytest.mark.parametrize("order", [["--json", "fcn8s"], ["fcn8s", "--json"]])
    def test_json(self, order: list[str]) -> None:
        content = json.loads(run(*order).stdout)
        assert content["name"] == "fcn8s"
        assert content["parameters"] == 28_888_626
        assert "to_pool5_predict" in content["architecture"]

    @pytest.mark.parametrize(
        ("typo", "name"), [("vgg61", "vgg16"), ("fcn-8s", "fcn8s"), ("imprt", "import")]
    )
    def test_a_typo_gets_the_nearest_name(self, typo: str, name: str) -> None:
        with pytest.raises(InputError, match=f"no member '{typo}': did you mean {name}"):
            run(typo)

    def test_a_file_of_another_suffix_is_looked_into(self, tmp_path: Path) -> None:
        torch.save({"a": torch.ones(1)}, tmp_path / "best.pth")
        with pytest.raises(InputError, match=r"best.pth doesn't say which network it is of"):
            run(str(tmp_path / "best.pth"))

    def test_the_shell_completes_the_members(self) -> None:
        words = {"COMP_WORDS": "models vg", "COMP_CWORD": "1", "_MODELS_COMPLETE": "bash_complete"}
        done = CliRunner().invoke(models, prog_name="models", env=words)
        expected = ["vgg16", "vgg19_bn_1", "vgg19_bn_2", "vgg19_bn_3"]
        assert done.stdout.split() == [f"plain,{name}" for name in expected]

    def test_help_lists_members_and_import(self) -> None:
        text = run("--help").stdout
        assert all(name in text for name in MEMBERS)
        assert "import" in text


class TestImport:
    def test_values_that_fp16_cannot_hold_are_reported_with_the_way_out(
        self, tiny: dict[str, Tensor], tmp_path: Path
    ) -> None:
        torch.save({**tiny, "fc.0.bias": tiny["fc.0.bias"].float() + 1e6}, tmp_path / "old.pth")
        with pytest.raises(InputError, match=r"beyond torch\.float16: give --dtype keep"):
            run("import", tmp_path / "old.pth", "--member", "vgg16", "--dtype", "fp16")

    def test_values_that_are_none_are_reported_without_a_way_that_leads_nowhere(
        self, tiny: dict[str, Tensor], tmp_path: Path
    ) -> None:
        torch.save({**tiny, "fc.0.bias": tiny["fc.0.bias"] * math.nan}, tmp_path / "old.pth")
        with pytest.raises(
            InputError, match=r"old\.pth: values in fc\.0\.bias aren't finite"
        ) as told:
            run("import", tmp_path / "old.pth", "--member", "vgg16", "--dtype", "fp16")
        assert "keep" not in str(told.value)
        assert not (tmp_path / "vgg16.safetensors").exists()

    def test_an_old_file_keeps_its_dtype(
        self, old: Path, tiny: dict[str, Tensor], tmp_path: Path
    ) -> None:
        output = tmp_path / "new" / "vgg16.safetensors"
        result = run("import", old, "--member", "vgg16", "--output", output)
        assert result.stdout == f"{output}\n"
        assert "40 × 40, not normalised" in result.stderr
        checkpoint = Store(output.parent).checkpoint("vgg16")
        assert checkpoint.preprocessing == Preprocessing()
        assert checkpoint.metadata["source"].startswith("old.pth sha256:")
        state = load_state(checkpoint)
        assert all(torch.equal(state[name], tiny[name]) for name in tiny)
        assert all(state[name].dtype == tiny[name].dtype for name in tiny)

    def test_fp16_and_a_preprocessing_of_its_own(self, old: Path, tmp_path: Path) -> None:
        text = '{"size": 64, "scale": 1, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}'
        options = ["--output", tmp_path, "--dtype", "fp16", "--preprocessing", text]
        run("import", old, "--member", "vgg16", *options)
        checkpoint = read_checkpoint(tmp_path / "vgg16.safetensors")
        assert checkpoint.preprocessing.size == 64
        assert checkpoint.preprocessing.std == (0.2, 0.2, 0.2)
        assert load_state(checkpoint)["fc.0.weight"].dtype == torch.float16

    def test_our_own_keeps_its_metadata(self, folder: Path, tmp_path: Path) -> None:
        run("import", folder / "vgg16.safetensors", "--member", "vgg16", "--output", tmp_path)
        checkpoint = read_checkpoint(tmp_path / "vgg16.safetensors")
        assert checkpoint.metadata["recipe"] == "hw1 train …"
        assert checkpoint.preprocessing.size == 64

    def test_nothing_is_overwritten_unasked(self, old: Path, tmp_path: Path) -> None:
        output = tmp_path / "vgg16.safetensors"
        output.write_text("mine")
        with pytest.raises(InputError, match="exists: give another name, or --overwrite"):
            run("import", old, "--member", "vgg16", "--output", output)
        assert output.read_text() == "mine"
        run("import", old, "--member", "vgg16", "--output", output, "--overwrite")
        assert read_checkpoint(output).member == "vgg16"

    def test_by_default_beside_the_old_one(self, tmp_path: Path) -> None:
        (tmp_path / "old.pth").write_bytes(b"anything")
        (tmp_path / "fcn8s.safetensors").touch()
        with pytest.raises(InputError, match=f"{tmp_path}/fcn8s.safetensors exists"):
            run("import", tmp_path / "old.pth", "--member", "fcn8s")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--member", "vgg61"], "did you mean vgg16"),
            (["--member", "fcn8s"], "doesn't fit fcn8s: .*It fits vgg16"),
            (["--member", "vgg16", "--preprocessing", "{}"], "expected JSON"),
            (["--member", "vgg16", "--output", "x.pth"], r"ending in \.safetensors"),
            (["--member", "vgg16", "--output", "/dev/null/x.safetensors"], "can't be written"),
        ],
    )
    def test_bad_usage(self, old: Path, options: list[str], message: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=message):
            run(
                "import",
                old,
                *(options if "--output" in options else [*options, "--output", tmp_path]),
            )
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("folder", [".", "/"])
    def test_a_folder_is_no_checkpoint(self, folder: str) -> None:
        with pytest.raises(InputError, match="expected a file's name, found a folder"):
            run("import", folder, "--member", "vgg16")

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="No such file"):
            run("import", tmp_path / "none.pth", "--member", "vgg16")
