"""What several tests share."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("hw1", deadline=None)  # a busy machine is slow; pytest has a time limit
settings.load_profile("hw1")

sys.path.insert(0, str(Path(__file__).parent))  # for fakes.py, beside the tests

os.environ["XDG_DATA_HOME"] = "/nonexistent"  # no checkpoints that were fetched once

# A shell's background jobs ignore Ctrl-C, and nohup's a closed terminal: so would the programs that
# tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the cache of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HW1_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_slow_starts() -> Iterator[None]:
    """Starts say nothing, however slow the machine: a line on stderr is a fault's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hw1.jobs.starting.SECONDS", 3600.0)
        yield


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints with random weights: vgg16 at 32 × 32, fcn8s at half scale."""
    import torch

    from hw1.core.preprocessing import Preprocessing
    from hw1.models.checkpoints import save
    from hw1.models.registry import build

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for member, preprocessing in {
        "vgg16": Preprocessing(size=32),
        "fcn8s": Preprocessing(size=None, scale=0.5),
    }.items():
        network = build(member)
        for name, parameter in network.named_parameters():
            # Random biases of the last layer, or every image would get the same class.
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.05)
        save(network, folder / f"{member}.safetensors", member, preprocessing, {})
    return folder
