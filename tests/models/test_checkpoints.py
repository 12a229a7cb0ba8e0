"""Folders of checkpoints: what is found, who votes, what is loaded, what is refused."""

import json
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hw1.core.classes import REFERENCE_CLASSIFIER
from hw1.core.errors import InputError
from hw1.core.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from hw1.models import files
from hw1.models.checkpoints import load, load_each, load_state, read_checkpoint, save
from hw1.models.collapse import WEIGHT, collapse_weight
from hw1.models.ensemble import REFERENCE, of, write_ensemble
from hw1.models.members import CLASSIFIERS, MEMBERS
from hw1.models.metadata import preprocessing_from_json, preprocessing_to_json
from hw1.models.registry import CLASSIFIERS as CLASSIFIER_BUILDERS
from hw1.models.registry import build, layout
from hw1.models.shipped import SHIPPED
from hw1.models.store import Store, checkpoints_of

REFERENCES = tuple(name for name in CLASSIFIERS if MEMBERS[name].reference_file)
OURS = Preprocessing(48, 1.0, IMAGENET_MEAN, IMAGENET_STD)


class Tiny(nn.Module):
    """A vgg16 that costs nothing, in the registry's place of the real one."""

    def __init__(self, classes: int = 50) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.fc = nn.Sequential(nn.Linear(4, classes))


@pytest.fixture
def tiny() -> Iterator[dict[str, Tensor]]:
    """The tiny vgg16's state dict, while that stands in the registry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CLASSIFIER_BUILDERS, "vgg16", Tiny)
        torch.manual_seed(0)
        yield Tiny().state_dict()


def _stored(tensor: Tensor) -> Tensor:
    return tensor.half().float() if tensor.is_floating_point() else tensor


def folder_of(folder: Path, *members: str, ours: bool = False) -> Path:
    """Files of the right names: enough for all that doesn't load."""
    for name in members:
        reference = MEMBERS[name].reference_file
        if ours or reference is None:
            files.write({"a": torch.ones(1)}, folder / f"{name}.safetensors", {"member": name})
        else:
            (folder / reference).write_bytes(b"anything")
    return folder


class TestFolders:
    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no folder"):
            Store(tmp_path / "none")
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match="no folder"):
            Store(tmp_path / "file")

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no checkpoint in"):
            Store(tmp_path)

    def test_the_shipped_folder_is_the_packages(self) -> None:
        assert Store.shipped().folder == SHIPPED
        assert (SHIPPED / "__init__.py").is_file()

    def test_ours_goes_before_the_references(self, tmp_path: Path) -> None:
        store = Store(folder_of(tmp_path, "vgg16"))
        assert store.checkpoint("vgg16").path.name == "vgg16-best.pth"
        folder_of(tmp_path, "vgg16", ours=True)
        assert store.checkpoint("vgg16").path.name == "vgg16.safetensors"

    def test_a_missing_checkpoint_says_how_to_get_it(self, tmp_path: Path) -> None:
        store = Store(folder_of(tmp_path, "vgg16"))
        with pytest.raises(InputError) as caught:
            store.checkpoint("resnet152")
        text = str(caught.value)
        assert "neither resnet152.safetensors nor resnet152-best.pth" in text
        assert "hw1 train classify DATA --member resnet152" in text
        assert "hw1 models import" in text
        with pytest.raises(InputError, match="hw1 train segment DATA --model fcn32s"):
            store.checkpoint("fcn32s")

    def test_a_member_that_the_reference_has_not_has_one_name(self, tmp_path: Path) -> None:
        store = Store(folder_of(tmp_path, "vgg16"))
        with pytest.raises(InputError, match=r"2: no efficientnet_lite2\.safetensors is in "):
            store.checkpoint("efficientnet_lite2")

    def test_an_unknown_member(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="did you mean densenet161"):
            Store(folder_of(tmp_path, "vgg16")).checkpoint("dense161")

    def test_available_lists_in_the_tables_order(self, tmp_path: Path) -> None:
        folder_of(tmp_path, "fcn8s", "vgg16", ours=True)
        folder_of(tmp_path, "densenet169")
        (tmp_path / "notes.txt").touch()
        found = Store(tmp_path).available()
        assert [each.member for each in found] == ["vgg16", "densenet169", "fcn8s"]
        assert [each.bytes for each in found] == [each.path.stat().st_size for each in found]

    def test_the_digest_is_the_files_sha256(self, tmp_path: Path) -> None:
        checkpoint = Store(folder_of(tmp_path, "vgg16")).checkpoint("vgg16")
        expected = "ee0874170b7f6f32b8c2ac9573c428d35b575270a66b757c2c0185d2bd09718d"
        assert checkpoint.digest == expected  # sha256sum of "anything"

    def test_a_checkpoint_travels_to_workers(self, tmp_path: Path) -> None:
        checkpoint = Store(folder_of(tmp_path, "vgg16", ours=True)).checkpoint("vgg16")
        assert pickle.loads(pickle.dumps(checkpoint)) == checkpoint


class TestPreprocessing:
    @pytest.mark.parametrize("member", MEMBERS)
    def test_without_metadata_it_is_the_references(self, member: str, tmp_path: Path) -> None:
        found = Store(folder_of(tmp_path, member)).checkpoint(member).preprocessing
        size = 40 if member in CLASSIFIERS else None
        assert found == Preprocessing(size, 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("nonsense", "expected JSON"),
            ("[]", "expected JSON"),
            ("[" * 10**5, "expected JSON"),
            ('{"size": 48, "scale": 1' + "0" * 400 + "}", "expected JSON"),
            ('{"size": 48}', "expected JSON"),
            ('{"size": 48, "scale": 1, "mean": [0, 0], "std": [1, 1, 1]}', "expected JSON"),
            ('{"size": 48, "scale": 1, "mean": [0, 0, 0], "std": [1, 1, 0]}', "from 1e-06"),
            ('{"size": 48, "scale": 0, "mean": [0, 0, 0], "std": [1, 1, 1]}', "above 0"),
            ('{"size": 48, "scale": 1, "mean": [0, 0, 0], "std": [1, 1e-300, 1]}', "from 1e-06"),
            ('{"size": 48, "scale": 1, "mean": [0, 1e300, 0], "std": [1, 1, 1]}', "at most 1000"),
            ('{"size": 48, "scale": 1e308, "mean": [0, 0, 0], "std": [1, 1, 1]}', "up to 16"),
            ('{"size": 48, "scale": 1, "mean": [0, 0, NaN], "std": [1, 1, 1]}', "finite"),
            ('{"size": 16, "scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}', "at least 32"),
            ('{"size": null, "scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}', "at least 32"),
            ('{"size": 4096, "scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}', "at most 1024"),
            (f'{{"size": {2**70}, "scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}}', "1024"),
            (
                '{"size": 48, "scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1], "crop_pct": 1}',
                "'crop_pct': not known",
            ),
        ],
        ids=lambda text: text[:40],
    )
    def test_senseless_metadata_are_refused(self, text: str, message: str, tmp_path: Path) -> None:
        path = tmp_path / "vgg16.safetensors"
        files.write({"a": torch.ones(1)}, path, {"preprocessing": text})
        with pytest.raises(InputError, match=message) as caught:
            Store(tmp_path).checkpoint("vgg16")
        assert str(path) in str(caught.value)
        assert len(str(caught.value)) < 500

    @pytest.mark.parametrize(
        ("member", "shrink", "message"),
        [
            ("vgg16", "0", "shrink must be a whole number of pixels up to 16384, or two"),
            ("vgg16", "[32]", "shrink must be a whole number"),
            ("vgg16", "32.5", "shrink must be a whole number"),
            ("vgg16", "99999999", "shrink must be a whole number"),
            ("fcn8s", "32", "size and shrink must be null for a segmenter"),
        ],
    )
    def test_a_senseless_shrink_is_refused(
        self, member: str, shrink: str, message: str, tmp_path: Path
    ) -> None:
        size = "48" if member == "vgg16" else "null"
        text = '{"size": %s, "scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1], "shrink": %s}'
        files.write(
            {"a": torch.ones(1)},
            tmp_path / f"{member}.safetensors",
            {"preprocessing": text % (size, shrink)},
        )
        with pytest.raises(InputError, match=message):
            Store(tmp_path).checkpoint(member)

    @pytest.mark.parametrize("shrink", [None, 32, (32, 40)])
    def test_a_shrink_is_kept(self, shrink: int | tuple[int, int] | None) -> None:
        preprocessing = Preprocessing(128, shrink=shrink)
        text = preprocessing_to_json(preprocessing)
        assert ("shrink" in text) == (shrink is not None)  # as files before it
        assert preprocessing_from_json(text, "classify") == preprocessing

    def test_a_segmenters_cell(self, tmp_path: Path) -> None:
        for cell in (1, 8):
            preprocessing = Preprocessing(None, 0.5, IMAGENET_MEAN, IMAGENET_STD, cell)
            text = preprocessing_to_json(preprocessing)
            assert ("cell" in text) == (cell > 1)  # what was written before there were cells
            assert preprocessing_from_json(text, "segment") == preprocessing
        for member, cell in (("fcn8s", "3"), ("fcn8s", "8.0"), ("vgg16", "8")):
            size = "null" if member == "fcn8s" else "48"
            text = '{"size": %s, "scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1], "cell": %s}'
            metadata = {"preprocessing": text % (size, cell)}
            files.write({"a": torch.ones(1)}, tmp_path / f"{member}.safetensors", metadata)
            with pytest.raises(InputError, match="cell must be 1, or of a segmenter one of 1, 2"):
                Store(tmp_path).checkpoint(member)

    def test_a_segmenter_has_no_size(self, tmp_path: Path) -> None:
        text = '{"size": 48, "scale": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}'
        files.write({"a": torch.ones(1)}, tmp_path / "fcn8s.safetensors", {"preprocessing": text})
        with pytest.raises(InputError, match="must be null"):
            Store(tmp_path).checkpoint("fcn8s")


class TestEnsembles:
    def test_the_references_folder_runs_as_the_reference_did(self, tmp_path: Path) -> None:
        ensemble = Store(folder_of(tmp_path, *REFERENCES)).ensemble()
        assert ensemble.members == REFERENCES
        assert ensemble.vote_weights == (1, 1, 2, 1, 2, 2, 2, 2)
        assert ensemble.vote == "logits"

    def test_without_a_toml_those_that_are_there_vote(self, tmp_path: Path) -> None:
        ensemble = Store(folder_of(tmp_path, "densenet161", "vgg16", "fcn8s")).ensemble()
        assert ensemble == of({"vgg16": 1, "densenet161": 2}, "logits")

    def test_a_member_that_the_reference_has_not_votes_with_1(self, tmp_path: Path) -> None:
        ensemble = Store(folder_of(tmp_path, "densenet161", "efficientnet_lite2")).ensemble()
        assert ensemble == of({"densenet161": 2, "efficientnet_lite2": 1}, "logits")

    def test_segmenters_alone_cannot_vote(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no classifier's checkpoint"):
            Store(folder_of(tmp_path, "fcn8s")).ensemble()

    def test_the_toml_decides(self, tmp_path: Path) -> None:
        folder_of(tmp_path, *CLASSIFIERS)
        expected = of({"vgg16": 3, "densenet169": 0.5}, "probabilities")
        write_ensemble(tmp_path / "ensemble.toml", expected)
        assert Store(tmp_path).ensemble() == expected

    def test_a_member_of_the_toml_without_checkpoint(self, tmp_path: Path) -> None:
        folder_of(tmp_path, "vgg16")
        write_ensemble(tmp_path / "ensemble.toml", of({"vgg16": 3, "densenet169": 1}, "logits"))
        with pytest.raises(InputError, match=r"no checkpoint of densenet169, which .*toml lists"):
            Store(tmp_path).ensemble()
        assert Store(tmp_path).ensemble(["vgg16"]) == of({"vgg16": 3}, "logits")

    def test_named_members_keep_their_weights_and_the_tables_order(self, tmp_path: Path) -> None:
        folder_of(tmp_path, *CLASSIFIERS)
        store = Store(tmp_path)
        assert store.ensemble(["densenet161", "vgg16"]) == of(
            {"vgg16": 1, "densenet161": 2}, "logits"
        )
        write_ensemble(tmp_path / "ensemble.toml", of({"vgg16": 5}, "probabilities"))
        assert store.ensemble(["densenet161", "vgg16"]) == of(
            {"vgg16": 5, "densenet161": 1}, "probabilities"
        )

    def test_a_folder_may_hold_several_ensembles(self, tmp_path: Path) -> None:
        store = Store(folder_of(tmp_path, "vgg16", "densenet169"))
        write_ensemble(tmp_path / "ensemble.toml", of({"vgg16": 5, "densenet169": 1}, "logits"))
        write_ensemble(tmp_path / "ensemble-fast.toml", of({"densenet169": 1}, "probabilities"))
        assert store.ensemble(name="best") == store.ensemble()
        assert store.ensemble(name="fast") == of({"densenet169": 1}, "probabilities")
        with pytest.raises(InputError, match=r"resnet152, one of the reference's eight: neither"):
            store.ensemble(name="reference")
        folder_of(tmp_path, *REFERENCES)
        assert store.ensemble(name="reference") == REFERENCE

    @pytest.mark.parametrize("name", ["slow", "../ensemble-fast", "", "fast.toml"])
    def test_an_ensemble_that_is_not_there(self, name: str, tmp_path: Path) -> None:
        store = Store(folder_of(tmp_path, "vgg16"))
        write_ensemble(tmp_path / "ensemble-fast.toml", of({"vgg16": 1}, "logits"))
        with pytest.raises(InputError, match=r"no ensemble .*: expected best or fast or reference"):
            store.ensemble(name=name)

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            (["vgg61"], "did you mean vgg16"),
            (["fcn8s"], "fcn8s is a segmenter"),
            (["vgg16", "vgg16"], "vgg16 is named twice"),
            ([], "no members"),
            (["resnet152"], "no checkpoint of resnet152: neither"),
        ],
    )
    def test_bad_names(self, members: list[str], message: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=message):
            Store(folder_of(tmp_path, "vgg16")).ensemble(members)

    def test_for_an_unknown_name_the_files_there_are_named(self, tmp_path: Path) -> None:
        store = Store(folder_of(tmp_path, "vgg16"))
        (tmp_path / "mob.safetensors").write_bytes(b"")
        message = rf"no member 'mob': There are vgg16, .*; files in {tmp_path}: mob\.safetensors$"
        with pytest.raises(InputError, match=message):
            store.ensemble(["mob"])
        with pytest.raises(InputError, match=message):
            store.checkpoint("mob")


class TestLoading:
    def test_a_round_trip(self, tiny: dict[str, Tensor], tmp_path: Path) -> None:
        path = tmp_path / "deep" / "vgg16.safetensors"
        metadata = {"recipe": "hw1 train …", "scores": json.dumps({"accuracy": 0.83})}
        save(tiny, path, "vgg16", OURS, metadata)
        checkpoint = Store(path.parent).checkpoint("vgg16")
        assert checkpoint.preprocessing == OURS
        assert checkpoint.scores == {"accuracy": 0.83}
        assert checkpoint.classes == REFERENCE_CLASSIFIER
        assert checkpoint.metadata["recipe"] == "hw1 train …"
        assert load_state(checkpoint)["fc.0.weight"].dtype == torch.float16
        network = load(checkpoint)
        assert not network.training
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, _stored(tiny[name]))
        again = tmp_path / "again.safetensors"
        save(network, again, "vgg16", OURS, metadata)
        assert again.read_bytes() == path.read_bytes()
        assert read_checkpoint(again).member == "vgg16"

    def test_a_real_vgg16(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        made = build("vgg16").eval()
        save(made, tmp_path / "vgg16.safetensors", "vgg16", OURS, {}, dtype="fp32")
        found = load(Store(tmp_path).checkpoint("vgg16"))
        images = torch.rand(2, 3, 48, 48)
        with torch.inference_mode():
            assert torch.equal(found(images), made(images))

    def test_a_flipped_byte_is_found(self, tiny: dict[str, Tensor], tmp_path: Path) -> None:
        path = tmp_path / "vgg16.safetensors"
        save(tiny, path, "vgg16", OURS, {})
        found = Store(tmp_path).checkpoint("vgg16")
        content = bytearray(path.read_bytes())
        content[-101] ^= 1
        path.write_bytes(content)
        with pytest.raises(InputError, match="has changed: its SHA-256 was"):
            load(found)
        with pytest.raises(InputError, match="is damaged: its tensors' digest"):
            load(Store(tmp_path).checkpoint("vgg16"))
        path.write_bytes(content[:-1])
        with pytest.raises(InputError, match="is damaged"):
            load(Store(tmp_path).checkpoint("vgg16"))

    def test_the_references_file(self, tiny: dict[str, Tensor], tmp_path: Path) -> None:
        state = {f"module.{name}": tensor for name, tensor in tiny.items()}
        content = {"state_dict": state, "epoch": 30}
        path = tmp_path / "vgg16-best.pth"
        torch.save(content, path, _use_new_zipfile_serialization=False)
        network = load(Store(tmp_path).checkpoint("vgg16"))
        assert all(torch.equal(network.state_dict()[name], tiny[name]) for name in tiny)

    def test_many_are_read_ahead_and_come_in_order(
        self, tiny: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever is first read, and as the caller's thread would make them."""
        for index in range(6):
            state = {**tiny, "fc.0.bias": torch.full_like(tiny["fc.0.bias"], index)}
            save(state, tmp_path / f"{index}.safetensors", "vgg16", OURS, {}, dtype="fp32")
        names = [f"{index}.safetensors" for index in range(6)]
        found = checkpoints_of(Store(tmp_path), names)
        assert [checkpoint.member for checkpoint in found] == names

        read, read_bytes = threading.Semaphore(0), files.read_bytes

        def second_first(path: Path) -> bytes:
            if path.name == names[0]:
                assert read.acquire(timeout=60)
            elif path.name == names[1]:
                read.release()
            return read_bytes(path)

        monkeypatch.setattr(files, "read_bytes", second_first)
        with torch.inference_mode():
            networks = list(load_each(found))
        biases = [network.fc[0].bias for network in networks if isinstance(network, Tiny)]
        assert [float(bias[0]) for bias in biases] == [0, 1, 2, 3, 4, 5]
        assert all(bias.is_inference() for bias in biases)

        (tmp_path / names[4]).write_bytes(b"other")
        with pytest.raises(InputError, match=r"4.safetensors has changed"):
            list(load_each(found))

    def test_a_file_from_before_the_norms_counted(
        self, tiny: dict[str, Tensor], tmp_path: Path
    ) -> None:
        state = {name: tiny[name] for name in tiny if not name.endswith("num_batches_tracked")}
        torch.save(state, tmp_path / "vgg16-best.pth", _use_new_zipfile_serialization=False)
        found = load(Store(tmp_path).checkpoint("vgg16")).state_dict()
        assert found["backbone.1.num_batches_tracked"] == 0
        assert all(tensor.device.type == "cpu" for tensor in found.values())

    def test_anothers_file(self, tiny: dict[str, Tensor], tmp_path: Path) -> None:
        path = tmp_path / "fcn8s-best.pth"
        torch.save(tiny, path, _use_new_zipfile_serialization=False)
        with pytest.raises(InputError, match=r"doesn't fit fcn8s: it lacks .*\. It fits vgg16$"):
            load(Store(tmp_path).checkpoint("fcn8s"))

    def test_a_collapsed_vgg19_bn_loads_into_the_tables_layout(self, tmp_path: Path) -> None:
        state = {
            name: torch.full(shape, 0.01) if len(shape) > 1 else torch.ones(shape)
            for name, shape in layout("vgg19_bn_2").items()
        }
        stored = {**state, WEIGHT: collapse_weight(state[WEIGHT], 1)}
        del state
        save(stored, tmp_path / "vgg19_bn_2.safetensors", "vgg19_bn_2", OURS, {})
        checkpoint = Store(tmp_path).checkpoint("vgg19_bn_2")
        assert checkpoint.bytes < 50e6
        network = load(checkpoint)
        weight = network.state_dict()["classifier.0.weight"]
        assert weight.shape == (4096, 25088)
        assert torch.allclose(weight[:, ::1000], torch.tensor(0.01), rtol=1e-3)

    def test_a_state_that_does_not_fit_is_not_saved(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="the state dict doesn't fit vgg16"):
            save({"a": torch.ones(1)}, tmp_path / "vgg16.safetensors", "vgg16", OURS, {})
        assert not list(tmp_path.iterdir())

    def test_whose_file_it_is(self, tmp_path: Path) -> None:
        folder_of(tmp_path, "vgg16", "fcn8s")
        (tmp_path / "vgg16-best.pth").rename(tmp_path / "epoch3.pth")
        with pytest.raises(InputError, match=r"doesn't say which .*import epoch3\.pth NEW"):
            read_checkpoint(tmp_path / "epoch3.pth")
        with pytest.raises(InputError, match="timm:resnet18 is an architecture, expected a check"):
            read_checkpoint(tmp_path / "timm:resnet18")
        with pytest.raises(
            InputError, match=r"vgg19_bn_1 is a preset, .*: give --members vgg19_bn_1"
        ):
            read_checkpoint(tmp_path / "vgg19_bn_1")
        assert read_checkpoint(tmp_path / "epoch3.pth", "vgg16").member == "vgg16"
        assert read_checkpoint(tmp_path / "fcn8s-best.pth").member == "fcn8s"
        files.write({"a": torch.ones(1)}, tmp_path / "x", {"member": "vgg16"})
        assert read_checkpoint(tmp_path / "x").member == "vgg16"
        with pytest.raises(InputError, match="is a checkpoint of vgg16, by its metadata"):
            read_checkpoint(tmp_path / "x", "fcn8s")

    @pytest.mark.parametrize(
        "scores",
        [
            *("[", "[1]", '{"a": "b"}', '{"a": null}', '{"a": NaN}', '{"a": 1e999}', "[" * 10**5),
            '{"a": 1' + "0" * 400 + "}",
        ],
        ids=lambda text: text[:9],
    )
    def test_senseless_scores_are_none(self, scores: str, tmp_path: Path) -> None:
        files.write({"a": torch.ones(1)}, tmp_path / "vgg16.safetensors", {"scores": scores})
        assert Store(tmp_path).checkpoint("vgg16").scores == {}

    def test_a_score_of_a_run_that_diverged_hides_no_other(self, tmp_path: Path) -> None:
        scores = json.dumps({"accuracy": 0.5, "log_loss": float("nan")})
        files.write({"a": torch.ones(1)}, tmp_path / "vgg16.safetensors", {"scores": scores})
        assert Store(tmp_path).checkpoint("vgg16").scores == {"accuracy": 0.5}
