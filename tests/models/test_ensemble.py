"""ensemble.toml: what is read, what is refused, and that what is written is read."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw1.core.errors import InputError
from hw1.models.ensemble import REFERENCE, Ensemble, of, read_ensemble, write_ensemble
from hw1.models.members import CLASSIFIERS


def read(folder: Path, text: str | bytes) -> Ensemble:
    path = folder / "ensemble.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_ensemble(path)


def test_the_reference_votes_by_logits_in_thirteenths() -> None:
    assert Ensemble(CLASSIFIERS[:8], (1, 1, 2, 1, 2, 2, 2, 2), "logits") == REFERENCE


def test_members_come_in_the_tables_order_and_zeros_are_left_out(tmp_path: Path) -> None:
    text = "[weights]\ndensenet169 = 0.5\nvgg16 = 2\nresnet152 = 0\n[scores]\nensemble = 0.85\n"
    assert read(tmp_path, text) == Ensemble(("vgg16", "densenet169"), (2.0, 0.5), "logits")
    probabilities = read(tmp_path, 'vote = "probabilities"\n' + text)
    assert probabilities.vote == "probabilities"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected a table \[weights\]"),
        ("weights = 3", r"expected a table \[weights\]"),
        ("[weights]", r"expected a table \[weights\]"),
        ("[weights\n", "is not TOML"),
        (b"\xff", "is not TOML"),
        ("[weights]\nvgg61 = 1", "no member 'vgg61': did you mean vgg16"),
        ("[weights]\nfcn8s = 1", "no member 'fcn8s'"),
        ("[weights]\nvgg16 = -1", "the weight of vgg16 is -1, expected 0 or more"),
        ("[weights]\nvgg16 = nan", "the weight of vgg16 is nan"),
        ("[weights]\nvgg16 = inf", "the weight of vgg16 is inf"),
        (f"[weights]\nvgg16 = 1{'0' * 400}", "the weight of vgg16 is inf, expected 0 or more"),
        (f"[weights]\nvgg16 = 1{'0' * 5000}", "is not TOML"),
        ('[weights]\nvgg16 = "1"', "the weight of vgg16 is '1', expected a number"),
        ("[weights]\nvgg16 = true", "the weight of vgg16 is True, expected a number"),
        ("[weights]\nvgg16 = 0\nresnet152 = 0.0", "all weights are 0"),
        ('vote = "logit"\n[weights]\nvgg16 = 1', "vote is 'logit', expected \"logits\""),
        ("vote = 3\n[weights]\nvgg16 = 1", "vote is 3"),
        ("[weigths]\nvgg16 = 1", "unknown entry 'weigths': did you mean weights"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "ensemble.toml") in str(caught.value)


@given(
    st.dictionaries(
        st.sampled_from(CLASSIFIERS),
        st.one_of(st.integers(0, 100), st.floats(1e-9, 1e9)),
        min_size=1,
    ).filter(lambda weights: any(weights.values())),
    st.sampled_from(["logits", "probabilities"]),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, weights: dict[str, float], vote: str
) -> None:
    path = tmp_path_factory.mktemp("ensemble") / "ensemble.toml"
    ensemble = of(weights, vote)  # type: ignore[arg-type]
    write_ensemble(path, ensemble, {"ensemble": 0.85, **dict.fromkeys(ensemble.members, 0.8)})
    assert read_ensemble(path) == ensemble
    assert tomllib.loads(path.read_text())["scores"]["ensemble"] == 0.85


def test_whole_weights_are_written_as_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "ensemble.toml"
    write_ensemble(path, of({"vgg16": 2.0, "vgg19_bn_2": 0.25}, "logits"))
    assert path.read_text().endswith('vote = "logits"\n\n[weights]\nvgg16 = 2\nvgg19_bn_2 = 0.25\n')
