"""What a figure was measured on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """The processor, what it computes natively, the GPU, the versions."""
    import torch

    info = _proc("/proc/cpuinfo")
    flags = info.get("flags", "").split()
    return {
        "cpu": info.get("model name", platform.processor()),
        "cores": len(os.sched_getaffinity(0)),
        "avx512_bf16": "avx512_bf16" in flags,
        "amx_bf16": "amx_bf16" in flags,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "memory_gib": round(int(_proc("/proc/meminfo")["MemTotal"].split()[0]) / 2**20, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("hw1", "torch", "torchvision", "ray", "pillow")},
    }


def has_bf16(machine: dict[str, Any]) -> bool:
    """Whether the processor computes bf16 itself: what the speeds that are asked for assume."""
    return bool(machine["avx512_bf16"] or machine["amx_bf16"])


def load() -> float:
    """How many processes wanted a core in the last minute: what else runs spoils a figure."""
    return os.getloadavg()[0]


def _proc(path: str) -> dict[str, str]:
    """The first value of each name in a file of /proc."""
    values: dict[str, str] = {}
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        values.setdefault(name.strip(), value.strip())
    return values
