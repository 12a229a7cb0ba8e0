"""A training run's recipe: the words of the command line, resolved once; it travels whole."""

import json
import shlex
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from ..core.errors import InputError
from ..core.numerics import Device, Precision
from ..core.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Framing, Preprocessing
from ..core.records import TaskKind
from ..models.architectures import find_architecture
from ..models.members import MEMBERS

ODD_SIDE = 64
"""The side, in pixels, that images of differing sizes are kept at to train on, if not larger."""

# The stride of a segmenter's finest predictions.
_CELL = {"fcn8s": 8, "fcn32s": 32}
_BY_ADAMW = {"efficientnet_lite2"}  # of the classifiers
_NOT_OPTIONS = {"task", "member", "data", "validation"}
_FILES = {"init", "teacher", "teacher_scores", "classes"}
_OPTIONS_OF_OTHERS = {
    "classify": {"crop", "score_scale", "colours", "dropout"},
    "segment": {"smoothing", "mix", "augment", "teacher", "teacher_scores"},
}


def usual_rate(task: TaskKind, member: str) -> float:
    """The learning rate where none is given."""
    if task == "segment":
        return 1e-4
    if member not in MEMBERS:
        return 3e-4
    return 6e-4 if member in _BY_ADAMW else 0.01


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the weights that a run ends with, besides the pixels.

    Sizes are in pixels, ``budget`` in minutes. ``freeze`` counts the network's first blocks that
    stay as they began. ``ema`` is the decay of the average of the weights that is kept.
    ``size_from`` is the side of the first step's crops, which grows to ``size`` over the schedule.
    ``crop`` is the range of sides that a crop of a tile has before it is shrunk to that,
    ``score_scale`` what tiles are scored at, ``colours`` how much of the full change of colours
    they undergo, and ``dropout`` the share of fcn8s's wide features that a step does without; these
    say nothing of photos.
    """

    task: TaskKind
    member: str
    data: str
    validation: str | None
    init: str
    teacher: str | None
    size: int
    size_from: int
    crop: tuple[int, int]
    score_scale: float
    colours: float
    dropout: float
    epochs: int
    epoch_images: int | None
    budget: float | None
    batch_size: int
    lr: float
    ema: float
    smoothing: float
    mix: Literal["none", "mixup", "cutmix"]
    freeze: int
    holdout: int
    seed: int
    device: Device
    precision: Precision
    threads: int | None
    classes: str | None = None
    teacher_scores: str | None = None
    augment: Literal["usual", "strong"] = "usual"

    @property
    def preprocessing(self) -> Preprocessing:
        """What the checkpoints' metadata carries: how pixels become this network's input."""
        if self.task == "classify":
            if self.member not in MEMBERS:
                return self._like_the_library()
            member = MEMBERS[self.member]
            return Preprocessing(self.size, 1.0, member.mean, member.std)
        cell = _CELL.get(self.member, 1)
        return Preprocessing(None, self.score_scale, IMAGENET_MEAN, IMAGENET_STD, cell)

    def _like_the_library(self) -> Preprocessing:
        """The library's own, for inputs of ``size``: what is cropped keeps its share."""
        usual = find_architecture(self.member).preprocessing
        sides = usual.sides or (self.size, self.size)
        resize = usual.resize
        if isinstance(resize, int):
            resize = round(resize * self.size / min(sides))
        elif resize is not None:
            resize = (
                round(resize[0] * self.size / sides[0]),
                round(resize[1] * self.size / sides[1]),
            )
        return replace(usual, size=self.size, resize=resize)

    @property
    def framings(self) -> tuple[Framing | int, Framing | int]:
        """Of a classifier: what is kept of an image to train on, and what it's scored by."""
        scored = self.preprocessing.framing
        assert scored is not None, "only a classifier has a framing"
        if scored.resize is None and scored.interpolation == "bilinear":
            return max(self.size, ODD_SIDE), self.size
        if isinstance(scored.resize, int):
            return replace(scored, size=(scored.resize, scored.resize)), scored
        return replace(scored, size=scored.resize or scored.size), scored

    @property
    def adamw(self) -> bool:
        """Whether AdamW is the optimiser, not SGD with Nesterov's momentum."""
        return self.task == "segment" or self.member in _BY_ADAMW or self.member not in MEMBERS

    @property
    def head_lr(self) -> float:
        """What multiplies ``lr`` behind the backbone, where ImageNet weights have no part."""
        if self.init == "scratch":
            return 1.0
        return 4.0 if self.adamw else 5.0

    @property
    def weight_decay(self) -> float:
        """SGD's, or AdamW's."""
        if self.task == "segment":
            return 1e-2
        return 3e-2 if self.adamw else 5e-4

    @property
    def warmup(self) -> float:
        """The share of the schedule in which the learning rate rises."""
        return 0.1 if self.adamw else 0.15

    @property
    def command(self) -> str:
        """The command line that this recipe is, every choice spelled out, paths by their names."""
        words = ["hw1", "train", self.task, Path(self.data).name]
        option = "--member" if self.task == "classify" else "--model"
        words += [option if self.member in MEMBERS else "--arch", self.member]
        for name, value in asdict(self).items():
            if value is None or name in _NOT_OPTIONS or name in _OPTIONS_OF_OTHERS[self.task]:
                continue
            if name == "epochs" and self.budget is not None:
                continue
            words.append("--" + name.replace("_", "-"))
            if isinstance(value, tuple):
                words += [str(part) for part in value]
            else:
                words.append(Path(value).name if name in _FILES else str(value))
        return shlex.join(words)

    def diverged(self, found: str) -> InputError:
        """The error to raise for numbers that grew beyond all bounds."""
        return InputError(
            f"{found}: training has diverged. Give a lower --lr than {self.lr:g}, and another "
            "--output or --overwrite"
        )

    def to_json(self) -> str:
        """The recipe as JSON, for the state and the run's folder."""
        return json.dumps(asdict(self))

    def require_same(self, text: str, output: Path) -> None:
        """Raise InputError where the run in ``output`` began with another recipe, ``text``."""
        # What runs that began before an option was there did is the option's default.
        usual = {f.name: f.default for f in fields(self) if f.default is not MISSING}
        theirs: dict[str, Any] = usual | json.loads(text)
        ours = json.loads(self.to_json())
        differ = [
            f"{field.name.replace('_', '-')} {theirs.get(field.name)}, now {ours[field.name]}"
            for field in fields(self)
            # A folder may move; the digest of the images tells whether they are the same.
            if field.name != "data" and theirs.get(field.name) != ours[field.name]
        ]
        if differ:
            raise InputError(
                f"{output} holds a run with other options ({'; '.join(differ)}): give those "
                "again to resume it, another --output, or --overwrite to start again"
            )
