"""Weights stored in eight bits: what is rounded, by how much, and that it stays as it was."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from networks import save_network
from torch import nn

from hw1.cli import main
from hw1.core.errors import InputError
from hw1.models import eight_bits, files
from hw1.models.checkpoints import load_state, read_checkpoint
from hw1.models.importing import Given, import_checkpoint

WORD = "torchvision:squeezenet1_1"


@given(st.integers(0, 2**32), st.integers(-30, 30), st.integers(1, 5))
def test_each_weight_errs_by_half_a_step_of_its_channel_at_most(
    seed: int, power: int, channels: int
) -> None:
    weight = torch.randn(channels, 9, 8, generator=torch.Generator().manual_seed(seed)) * 2.0**power
    weight[0] = 0
    stored = eight_bits.encode({"w": weight})
    decoded = eight_bits.decode(stored, "x")["w"]
    assert stored["w"].dtype == torch.int8
    step = weight.flatten(1).abs().amax(1) / 127
    assert ((decoded - weight).flatten(1).abs() <= 0.5001 * step[:, None]).all()
    again = eight_bits.encode({"w": decoded})
    assert all(torch.equal(again[name], tensor) for name, tensor in stored.items())


def test_small_kernels_biases_and_counters_stay_floats() -> None:
    state = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8)).state_dict()
    decoded = eight_bits.decode(eight_bits.encode(state), "x")
    assert decoded.keys() == state.keys()
    for name, tensor in state.items():
        rounded = tensor.half() if tensor.is_floating_point() else tensor
        assert torch.equal(decoded[name], rounded)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="w"):
        eight_bits.encode({"w": torch.full((2, 64), value)})


def test_a_file_without_its_scales_is_damaged(tmp_path: Path) -> None:
    stored = eight_bits.encode({"w": torch.ones(3, 64)})
    scales = next(name for name in stored if name != "w")
    path = tmp_path / "a.safetensors"
    for state in ({"w": stored["w"]}, {**stored, scales: torch.ones(4)}):
        files.write(state, path, {eight_bits.KEY: eight_bits.STORED})
        with pytest.raises(InputError, match=r"a\.safetensors is damaged \(no scales of w\)"):
            files.parse(path.read_bytes(), path)


def test_a_file_in_eight_bits_is_a_checkpoint_as_any_other(tmp_path: Path) -> None:
    source = save_network(tmp_path / "a.safetensors", WORD)
    small = tmp_path / "small.safetensors"
    done = CliRunner().invoke(
        main, ["models", "import", str(source), str(small), "--dtype", "8bit"]
    )
    assert done.exit_code == 0, done.output
    assert small.stat().st_size < 0.6 * source.stat().st_size
    before, after = load_state(read_checkpoint(source)), load_state(read_checkpoint(small))
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[n].float(), after[n].float(), atol=0.02) for n in before)
    kept = import_checkpoint(small, tmp_path / "kept.safetensors", Given()).checkpoint
    assert kept.path.stat().st_size < 1.1 * small.stat().st_size
    assert all(torch.equal(after[n], tensor) for n, tensor in load_state(kept).items())
    floats = import_checkpoint(small, tmp_path / "f.safetensors", Given(dtype="fp32")).checkpoint
    assert eight_bits.KEY not in floats.metadata
    assert all(torch.equal(after[n].float(), t) for n, t in load_state(floats).items())
