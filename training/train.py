"""Training one network: a recipe and a folder of images become checkpoints, resumably."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from ..core.allocator import keep_blocks
from ..core.classes import read_classes
from ..core.errors import InputError
from ..models.architectures import find_architecture
from ..models.checkpoints import load
from ..models.fit import try_out
from ..models.inference import memory_faults
from ..models.members import MEMBERS
from . import initial
from .budget import fit_schedule
from .checkpoints import BEST, HELD_OUT, STAGES, Checkpoints
from .classification import ClassificationTask
from .crops import require_room
from .loop import Loop, require_same_run
from .optimise import plan
from .photos import load_photos
from .recipe import Recipe
from .segmentation import SegmentationTask, balanced_weights
from .source import Source, find_source
from .state import hold, read_state, write_names
from .task import TrainingTask
from .teacher import open_teacher, read_opinions
from .tiles import load_tiles

Say = Callable[[str], None]

_CALIBRATED_ON = 256
_CALIBRATED_PIXELS = 256 * 64 * 64  # VGG's first activations of so many take 0.7 GB
_FEWEST_CALIBRATED = 16
_QUIET_SECONDS = 10.0
_BATCH_NORM = ("resnet", "resnext", "densenet", "vgg19_bn", "efficientnet")
"""What the names of members with batch norm begin with: it has nothing to learn from one image."""


@dataclass(frozen=True)
class TrainReport:
    """What a run came to.

    ``best_epoch`` is that of ``checkpoint``; ``scores`` holds each kept checkpoint's: ``best``, and
    ``early``, ``middle`` and ``final``, which lie in folders of these names.
    """

    member: str
    checkpoint: Path
    epochs: int
    best_epoch: int
    steps: int
    recipe: str
    scores: Mapping[str, Mapping[str, float]]

    def as_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        return {**asdict(self), "checkpoint": str(self.checkpoint)}


def train(recipe: Recipe, output: Path, say: Say, *, overwrite: bool = False) -> TrainReport:
    """Train a network into the folder ``output``, or go on where a killed run stopped.

    Leaves ``MEMBER.safetensors`` (the best epoch's averaged weights: a classifier's by log loss, a
    segmenter's by mIoU, of the held-out images where there are any, else the validation images),
    the same in ``early/``, ``middle/`` and ``final/``, ``metrics.csv``, ``held_out.txt`` (the files
    of the held-out images, where there are any), and ``state.pt``, which a
    resume needs. Raises InputError for bad images, weights or options and for a run with other
    options in ``output``, EnvironmentFault for a full disk or memory, Refused where another process
    trains into it. With ``overwrite`` an earlier run is removed when the new one can begin.
    """
    _check(recipe)
    checkpoints = Checkpoints(output, recipe, "")
    if not overwrite:
        _check_output(recipe, output, checkpoints)
    source = find_source(Path(recipe.data), Path(recipe.validation) if recipe.validation else None)
    keep_blocks()
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    task = _land_cover(recipe, source, say) if _segments(recipe) else _objects(recipe, source, say)
    with hold(output), memory_faults("give a smaller --batch-size or --size"):
        checkpoints.sweep()
        loop = _loop(recipe, task.on_device(), output, say, resume=not overwrite)
        if overwrite:
            checkpoints.clear()
        if held_out := task.held_out_files:
            write_names(output / HELD_OUT, held_out)
        loop.run()
        return _report(loop)


def _loop(recipe: Recipe, task: TrainingTask, output: Path, say: Say, *, resume: bool) -> Loop:
    """The run where it stands: at its beginning, or where it was killed."""
    state = read_state(output / "state.pt") if resume else None
    torch.manual_seed(recipe.seed)
    # A resumed run has its weights in the state: what it began with may be gone.
    init = "scratch" if state else recipe.init
    begun = initial.start(
        recipe.member,
        init,
        recipe.size,
        lambda: _samples(recipe, task),
        classes=len(task.classes),
        dropout=recipe.dropout,
    )
    is_preset = recipe.member in MEMBERS
    sides = None if _segments(recipe) else (recipe.size, recipe.size)
    last = initial.head_of(begun.network, recipe.member, sides)
    if not is_preset and sides:
        for side in sorted({recipe.size_from, recipe.size}):
            try_out(begun.network.eval(), recipe.member, (side, side))
        begun.network.train()
    if min(recipe.batch_size, len(task)) == 1 and any(
        isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)
        for layer in begun.network.modules()
    ):
        why = "--batch-size 1" if recipe.batch_size == 1 else "one image to train on"
        raise InputError(
            f"{why}: {recipe.member} has batch norm, which compares the images of a "
            "batch: expected 2 or more"
        )
    loop = Loop(
        recipe=recipe,
        task=task,
        network=begun.network,
        head=last,
        frozen=initial.freeze(begun.network, recipe.freeze, None if is_preset else last),
        schedule=plan(recipe, len(task)),
        output=output,
        say=say,
    )
    if state:
        loop.restore(state)
        say(f"{output}: going on after epoch {loop.epoch} of {loop.schedule.epochs}")
        return loop
    say(f"{recipe.member} begins with {begun.origin}; {len(task)} images to train on")
    if recipe.budget is not None:
        fit_schedule(loop, recipe.budget)
    return loop


def _report(loop: Loop) -> TrainReport:
    """Score the kept checkpoints, as they lie in their files, on the validation images."""
    scores: dict[str, dict[str, float]] = {}
    known: dict[str, dict[str, float]] = {}
    for stage in (*STAGES, BEST):
        checkpoint = loop.checkpoints.read(stage)
        name = "best" if stage == BEST else stage
        if loop.task.has("validation"):
            # Two stages may be one epoch's: equal weights have equal digests.
            digest = checkpoint.metadata["digest"]
            if digest not in known:
                network = load(checkpoint).to(loop.device)
                with torch.inference_mode():
                    known[digest] = loop.task.score(network, "validation")
            scores[name] = loop.checkpoints.add_scores(stage, known[digest])
        else:
            scores[name] = checkpoint.scores
    return TrainReport(
        member=loop.recipe.member,
        checkpoint=loop.checkpoints.path(BEST),
        epochs=loop.schedule.epochs,
        best_epoch=loop.history.best(loop.checkpoints.main_score),
        steps=loop.schedule.steps,
        recipe=loop.recipe.command,
        scores=scores,
    )


def _segments(recipe: Recipe) -> bool:
    return recipe.task == "segment"


def _check(recipe: Recipe) -> None:
    """Raise InputError for options that cannot be together."""
    if find_architecture(recipe.member).task != recipe.task:
        raise InputError(f"{recipe.member} is not trained to {recipe.task}")
    unit = 32 if _segments(recipe) else 1
    if recipe.size < 32 or recipe.size % unit:
        raise InputError(
            f"--size {recipe.size}: expected at least 32 pixels"
            + (", and a multiple of 32" if _segments(recipe) else "")
        )
    if not 32 <= recipe.size_from <= recipe.size or (recipe.size - recipe.size_from) % 32:
        raise InputError(
            f"--size-from {recipe.size_from}: expected 32 to {recipe.size} pixels (--size), and a "
            "multiple of 32 below it"
        )
    if recipe.member.startswith("vgg19_bn") and recipe.size_from != recipe.size:
        raise InputError(f"--size-from: {recipe.member} is trained at one size, its --size")
    if recipe.batch_size == 1:
        _require_no_batch_norm(recipe, "--batch-size 1")
    if recipe.crop[0] < 1 or recipe.crop[1] < recipe.crop[0]:
        raise InputError(
            f"--crop {recipe.crop[0]} {recipe.crop[1]}: expected LEAST and MOST pixels"
        )


def _require_no_batch_norm(recipe: Recipe, why: str) -> None:
    """Raise InputError, which begins with ``why``, where the member can't learn from one image."""
    if recipe.member.startswith(_BATCH_NORM):
        raise InputError(
            f"{why}: {recipe.member} has batch norm, which compares the images of a batch: "
            "expected 2 or more"
        )


def _check_output(recipe: Recipe, output: Path, checkpoints: Checkpoints) -> None:
    """Raise InputError before anything is read, where ``output`` holds something else."""
    state = read_state(output / "state.pt")
    if state is not None:
        require_same_run(state, recipe, output)
    elif checkpoints.path(BEST).exists():
        raise InputError(
            f"{checkpoints.path(BEST)} is there, and no run's state beside it: give another "
            "--output, or --overwrite to replace it"
        )


def _land_cover(recipe: Recipe, source: Source, say: Say) -> SegmentationTask:
    tick = _ticker("tiles", say)
    given = Path(recipe.classes) if recipe.classes else None
    tiles = load_tiles(source.train, warn=say, tick=tick, classes=given, say=say)
    train, held_out = tiles.split(recipe.holdout)
    require_room(recipe.crop, train)
    least, most = recipe.crop
    say(f"crops of {least} to {most} pixels, scaled to {recipe.size}")
    validation = None
    if source.validation:
        validation = load_tiles(
            source.validation, warn=say, tick=tick, classes=tiles.classes, say=say
        )
    return SegmentationTask(
        train=train,
        held_out=held_out,
        validation=validation,
        crop=recipe.crop,
        colours=recipe.colours,
        preprocessing=recipe.preprocessing,
        device=torch.device(recipe.device),
        class_weights=balanced_weights(train.masks, tiles.classes).to(recipe.device),
        seamless=recipe.member in MEMBERS,
    )


def _objects(recipe: Recipe, source: Source, say: Say) -> ClassificationTask:
    tick = _ticker("images", say)
    kept, scored = recipe.framings
    given = read_classes(Path(recipe.classes)) if recipe.classes else None
    photos = load_photos(source.train, kept, every_class=True, tick=tick, classes=given, say=say)
    train, held_out = photos.split(recipe.holdout)
    # None is larger than its shrink; where their sizes differ they have been enlarged by now.
    held_out = held_out.resized(scored)
    preprocessing = photos.prepared(recipe.preprocessing)
    if preprocessing.shrink and preprocessing.framing:
        scored = preprocessing.framing
    if len(train) == 1:
        _require_no_batch_norm(recipe, f"--holdout {recipe.holdout} leaves one image to train on")
    validation = None
    if source.validation:
        validation = load_photos(
            source.validation,
            scored,
            every_class=False,
            tick=tick,
            classes=photos.classes,
            say=say,
        ).resized(scored)
    return ClassificationTask(
        train=train,
        held_out=held_out,
        validation=validation,
        preprocessing=preprocessing,
        device=torch.device(recipe.device),
        smoothing=recipe.smoothing,
        mix=recipe.mix,
        augmentation=recipe.augment,
        teacher=open_teacher(recipe, photos) or read_opinions(recipe, train),
    )


def _samples(recipe: Recipe, task: TrainingTask) -> Tensor:
    """Normalised training images, on the CPU, to calibrate batch norms on."""
    generator = Generator().manual_seed(recipe.seed)
    most = min(_CALIBRATED_ON, _CALIBRATED_PIXELS // recipe.size**2)
    count = max(_FEWEST_CALIBRATED, most)
    indices = torch.randperm(len(task), generator=generator)[:count].tolist()
    return task.batch(indices, recipe.size, generator)[0].cpu()


def _ticker(noun: str, say: Say) -> Callable[[int, int], None]:
    """Say how far reading is, now and then."""
    said = time.monotonic()

    def tick(count: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said > _QUIET_SECONDS:
            said = time.monotonic()
            say(f"read {count} of {total} {noun}")

    return tick
