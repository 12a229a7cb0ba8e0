"""What is known of each member without building it; free of torch, so that it's quick to ask."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from ..core.errors import InputError
from ..core.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from ..core.records import TaskKind


@dataclass(frozen=True, slots=True)
class Member:
    """A network of the project, trained or not.

    ``reference_file`` is the name of its checkpoint in the reference's folder, None where the
    reference hasn't it; ``vote_weight`` its weight in the reference's vote, in thirteenths (0 for
    those that have no part in it). ``mean`` and ``std`` are what its ImageNet weights were trained
    with.
    """

    name: str
    task: TaskKind
    classes: int
    parameters: int
    reference_file: str | None
    vote_weight: int = 0
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @property
    def file_names(self) -> list[str]:
        """What its checkpoint's file may be called, ours first."""
        return [f"{self.name}.safetensors", *([self.reference_file] if self.reference_file else [])]


_HALF = (0.5, 0.5, 0.5)
MEMBERS: dict[str, Member] = {
    member.name: member
    for member in (
        Member("vgg16", "classify", 50, 14_858_866, "vgg16-best.pth", 1),
        Member("resnet152", "classify", 50, 58_246_258, "resnet152-best.pth", 1),
        Member("densenet161", "classify", 50, 26_582_450, "dense161-best.pth", 2),
        Member("densenet169", "classify", 50, 12_567_730, "dense169-best.pth", 1),
        Member("resnext101_32x8d", "classify", 50, 86_844_786, "resnext-best.pth", 2),
        Member("vgg19_bn_1", "classify", 50, 139_786_098, "vgg19_bn-best.pth", 2),
        Member("vgg19_bn_2", "classify", 50, 123_004_786, "vgg19_bn2-best.pth", 2),
        Member("vgg19_bn_3", "classify", 50, 148_074_354, "vgg19_bn3-best.pth", 2),
        Member("efficientnet_lite2", "classify", 50, 4_875_122, None, mean=_HALF, std=_HALF),
        Member("fcn8s", "segment", 7, 28_888_626, "fcn8s-best.pth"),
        Member("fcn32s", "segment", 7, 45_650_759, "fcn32s-best.pth"),
    )
}
CLASSIFIERS: tuple[str, ...] = tuple(m.name for m in MEMBERS.values() if m.task == "classify")
SEGMENTERS: tuple[str, ...] = tuple(m.name for m in MEMBERS.values() if m.task == "segment")


def find_member(name: str, among: Iterable[str] = MEMBERS) -> Member:
    """The member of this name. Raises InputError with the nearest name where there is none."""
    names = list(among)
    if name in names:
        return MEMBERS[name]
    raise InputError(f"no member {name!r}: {nearest(name, names)}")


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint for a name that isn't one of ``names``: the nearest of them, and all of them."""
    known = list(names)
    close = get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}There are {', '.join(known)}" if known else "there are none"
