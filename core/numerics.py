"""The numerics profile: what floating-point results depend on, fixed when a job begins.

The same weights and pixels give other last bits, and now and then another label, on another
device, in another precision or batch shape, with another number of threads. So these are chosen
once, by capability and never by timing, recorded in job.json, and met by every actor.
"""

import math
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, cast

from .errors import EnvironmentFault, InputError

Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]
Backend = Literal["torch", "openvino"]

CGROUP = Path("/sys/fs/cgroup")


class ProfileUnmet(EnvironmentFault):
    """This machine would give other bytes than the job's numerics profile promises."""


_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True, slots=True)
class Profile:
    """What the bytes of a job's result depend on, besides the weights and the images.

    ``batch_size`` is the number of images in a forward pass, ``threads`` that of an actor on a
    CPU (0 on a GPU, where the host's threads decide nothing). ``libraries`` are those that some
    models need besides torch, or some images besides Pillow, with their versions: ``timm 1.0.31``.
    ``unit``: of a cascade, the images from which batches of the undecided are packed, whole
    batches; else 0. ``lanes``: members that are computed at once, who share the threads.
    """

    device: Device
    device_model: str
    precision: Precision
    backend: str
    batch_size: int
    threads: int
    torch: str
    torchvision: str
    pillow: str
    libraries: str = ""
    unit: int = 0
    lanes: int = 1

    @property
    def member_threads(self) -> int:
        """Threads that compute a member, 0 on a GPU."""
        return self.threads // self.lanes


def resolve_device(asked: str) -> Device:
    """Turn ``auto`` into what this machine has; InputError where ``cuda`` is asked in vain."""
    if asked == "cpu" or (asked == "auto" and not _may_have_gpu()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        raise InputError(
            "--device cuda: torch sees no GPU here; give --device cpu, or install a torch "
            "that was built for this machine's GPU"
        )
    return "cpu"


def device_memory(device: Device) -> int:
    """The bytes of memory that the GPU has, whoever uses them; 0 of a CPU, where none is asked."""
    if device == "cpu":
        return 0
    import torch

    return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)


def gpu_batch_size(pixels: int, weights: int, memory: int) -> int:
    """Images in a forward pass of a classifier on a GPU: a power of two.

    ``pixels`` is the size of an input, ``weights`` the bytes of the checkpoints. As many as make
    1,024 inputs of 40 × 40, so that small ones fill a GPU, and 256 to 1,024. Fewer where weights
    (in float32, at their widest) and what a pass holds would take more than half of the memory: a
    network of the VGG kind holds three layers of 64 channels at the input's size at a time.
    """
    fills = max(1, 1024 * 40 * 40 // pixels)
    size = max(256, min(1024, 1 << (fills.bit_length() - 1)))
    while size > 1 and 2 * weights + size * pixels * 3 * 64 * 4 > memory // 2:
        size //= 2
    return size


def gpu_tiles(memory: int) -> int:
    """Images of a segmenter in a forward pass on a GPU, where they're small and of one size.

    16, which at 512 × 512 are as many pixels as the largest tile; fewer where these, in layers as
    `gpu_batch_size` has them, would take more than half of the memory.
    """
    size = 16
    while size > 1 and size * 512 * 512 * 3 * 64 * 4 > memory // 2:
        size //= 2
    return size


def has_bf16() -> bool:
    """Whether this CPU computes in bf16 natively."""
    return bool(_BF16_FLAGS & _cpu_flags())


def resolve_precision(asked: str, device: Device, backend: Backend = "torch") -> Precision:
    """Turn ``auto`` into the fastest precision of floats that the device computes natively."""
    if backend == "openvino" and asked == "bf16" and not has_bf16():
        # It would silently compute in fp32, and the profile say something else.
        raise InputError(
            "--backend openvino --precision bf16 needs a CPU with AVX512-BF16 or AMX: give fp32"
        )
    if asked == "auto":
        if device == "cpu":
            return "bf16" if has_bf16() else "fp32"
        import torch

        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if asked == "fp16" and device == "cpu":
        raise InputError("--precision fp16 needs a GPU: on a CPU give fp32 or bf16")
    return cast(Precision, asked)


def detect(
    device: Device,
    precision: Precision,
    batch_size: int,
    threads: int,
    libraries: Iterable[str] = (),
    backend: Backend = "torch",
    unit: int = 0,
    lanes: int = 1,
) -> Profile:
    """The profile that this machine gives for these choices.

    ``libraries`` are the packages that models and images need besides torch and Pillow.
    """
    return Profile(
        device=device,
        device_model=_device_model(device),
        precision=precision,
        backend=_backend_of(device, backend),
        batch_size=batch_size,
        threads=threads if device == "cpu" else 0,
        torch=version("torch"),
        torchvision=version("torchvision"),
        pillow=version("pillow"),
        libraries=", ".join(f"{name} {_version(name)}" for name in sorted(libraries)),
        unit=unit,
        lanes=lanes,
    )


def require(profile: Profile) -> None:
    """Raise ProfileUnmet where this machine would not give the profile's bytes."""
    packages = [each.split()[0] for each in profile.libraries.split(", ") if each]
    choices = profile.precision, profile.batch_size, profile.threads
    here = detect(
        profile.device, *choices, packages, backend_of(profile), profile.unit, profile.lanes
    )
    unmet = [
        f"{field.name} {getattr(profile, field.name)!r}, here {getattr(here, field.name)!r}"
        for field in fields(Profile)
        if getattr(profile, field.name) != getattr(here, field.name)
    ]
    if unmet:
        raise ProfileUnmet(
            f"this machine ({platform.node()}) cannot meet the job's numerics profile: "
            f"{'; '.join(unmet)}. Run it where they are equal, or start again with --overwrite"
        )


def identity(profile: Profile) -> dict[str, Any]:
    """The profile as a job's identity holds it: without what was added later and isn't used."""
    fields = asdict(profile)
    if not profile.libraries:
        del fields["libraries"]
    if not profile.unit:
        del fields["unit"]
    if profile.lanes == 1:
        del fields["lanes"]
    return fields


def backend_of(profile: Profile) -> Backend:
    """The library that runs the networks."""
    return "openvino" if profile.backend == "openvino" else "torch"


def _backend_of(device: Device, backend: Backend) -> str:
    if backend == "openvino":
        return "openvino"
    return "torch packed" if device == "cpu" else "torch deterministic"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def cores() -> int:
    """The CPU cores that this process may use: by its affinity, and by its container's quota.

    joblib's cpu_count rounds a quota up: threads that the quota then stops; and its import would
    take longer than all of ``hw1 --help``.
    """
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(own, _quota())))


def _device_model(device: Device) -> str:
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    # oneDNN picks its kernels by instruction set: two machines of one name may differ in it.
    sets = sorted(_cpu_flags() & (_BF16_FLAGS | {"avx2", "avx512f", "avx512_vnni"}))
    return " ".join([_cpu_line("model name") or platform.processor() or platform.machine(), *sets])


def _quota() -> float:
    """Cores' worth of time that the control group gives (versions 2 and 1), inf for no limit."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            text = " ".join((CGROUP / name).read_text() for name in names)
            quota, period = map(float, text.split())
        except (OSError, ValueError):  # not there, or "max"
            continue
        if quota > 0:
            return quota / period
    return math.inf


def _may_have_gpu() -> bool:
    """Whether it's worth asking torch, whose import takes seconds: a driver left its mark."""
    return any(any(Path("/dev").glob(name)) for name in ("nvidia[0-9]*", "kfd", "dxg"))


def _cpu_flags() -> frozenset[str]:
    return frozenset((_cpu_line("flags") or "").split())


def _cpu_line(name: str) -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
