"""How much the benches measure: in full, and in tiny sizes."""

from dataclasses import dataclass

CLASSIFIERS = (
    "vgg16",
    "resnet152",
    "densenet161",
    "densenet169",
    "resnext101_32x8d",
    "vgg19_bn_1",
    "vgg19_bn_2",
    "vgg19_bn_3",
)


@dataclass(frozen=True)
class Flows:
    """The images that jobs with real models are given.

    ``photo_batch``: photographs in a forward pass, and in a shard. So that a rate means something
    there are several shards for each core.
    """

    crops: int
    tiles: int
    photographs: int
    photo_batch: int


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    ``shipped``: small pictures for ``shipped_members``, which are all where none is named.
    ``photographs``: those for ``photo_members``, whose first is in ``real-flow`` too.
    ``real_options``: what else alone.py is given. ``old_files``: whether the eight reference
    checkpoints are made, 2.4 GB. ``int8``: whether others than those of classify-40 are made int8,
    which may take minutes. ``batch``: hw1's options where few images would fill no batch, all of
    which is computed.
    """

    runs: int
    photos: int
    shipped: int
    photographs: int
    tiles: int
    planned: tuple[int, int]
    files: int
    large: tuple[int, int]
    large_photos: tuple[int, int, int]
    flow: int
    real_flow: Flows
    real_flow_on_gpu: Flows
    real_options: tuple[str, ...]
    old_files: bool
    int8: bool
    members: tuple[str, ...]
    shipped_members: tuple[str, ...]
    photo_members: tuple[str, ...]
    batch: tuple[str, ...]


FULL = Sizes(
    runs=3,
    photos=2500,
    shipped=512,
    photographs=96,
    tiles=257,
    planned=(1_000, 100_000),
    files=100_000,
    large=(8000, 6000),
    large_photos=(96, 4000, 3000),
    flow=40_960,
    real_flow=Flows(2_560, 128, 48, photo_batch=8),
    real_flow_on_gpu=Flows(200_000, 5_000, 5_000, photo_batch=64),
    real_options=(),
    old_files=True,
    int8=True,
    members=CLASSIFIERS,
    shipped_members=(),
    photo_members=("resnet152", "densenet169", "vgg16"),
    batch=(),
)
QUICK = Sizes(
    runs=1,
    photos=40,
    shipped=6,
    photographs=3,
    tiles=2,
    planned=(200, 2_000),
    files=2_000,
    large=(800, 600),
    large_photos=(4, 800, 600),
    flow=6_144,
    real_flow=Flows(24, 6, 6, photo_batch=2),
    real_flow_on_gpu=Flows(80, 80, 80, photo_batch=8),
    real_options=("--batch-size", "8", "--shard-size", "2", "--seconds", "0.5"),
    old_files=False,
    int8=False,
    members=("vgg16",),
    shipped_members=("efficientnet_lite2",),
    photo_members=("vgg16",),
    batch=("--batch-size", "4"),
)
