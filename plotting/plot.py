"""Plots that need a model: t-SNE of a layer, and masks of several checkpoints side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from ..core import numerics
from ..core.errors import InputError
from ..core.records import Float32, Rejection, UInt8
from ..core.text import some
from ..evaluation.truth import find_masks, labels_in_names, mask_key, read_class_names, read_labels
from ..jobs.plan import shards
from ..models.checkpoints import Checkpoint, agreed_classes, load, read_checkpoint
from ..models.store import Store
from ..pipeline.decode import decode_rgb
from ..pipeline.decode_pieces import decode_crops
from ..pipeline.find import Found, find
from ..pipeline.limits import Reject
from ..pipeline.mask_files import MaskReader
from ..pipeline.masks import FOREIGN, colours_of, palette_of
from ..pipeline.views import ONE_VIEW, TTA_VIEWS, View
from .figures import check_output, draw_pictures
from .layers import LayerOutputs, find_layer
from .tsne import FEWEST, Embedding, draw_tsne, embed

DeviceChoice = Literal["auto", "cpu", "cuda"]

MOST_ROWS = 16
"""Images in a figure of masks: with more, none can be seen."""

_BATCH = 64
_SIDE = 800  # pixels of a picture in a figure of masks: more than are drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class TsneSpec:
    """A t-SNE plot in words. ``truth`` None: names of images begin with their class."""

    source: str
    output: Path
    member: str = "vgg16"
    layer: str = "fc.0"
    weights: Path | None = None
    truth: Path | None = None
    names: Path | None = None
    seed: int = 0
    device: DeviceChoice = "auto"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MasksSpec:
    """A figure of masks in words: a row an image, a column a checkpoint."""

    source: str
    output: Path
    checkpoints: tuple[Path, ...]
    truth: Path | None = None
    tta: bool = False
    device: DeviceChoice = "auto"
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plotted:
    """How many images a figure shows, and those that could not be decoded."""

    images: int
    rejections: tuple[Rejection, ...] = ()


def plot_tsne(spec: TsneSpec) -> Plotted:
    """Embed what a classifier's layer gives for images in two dimensions, and draw it by class.

    A layer's output with height and width is averaged over these. Raises InputError for a layer
    that the member hasn't, images without a label, fewer than FEWEST of them.
    """
    check_output(spec.output)
    found = find(spec.source, spec.include, spec.exclude, skip=[spec.output])
    labels = _labels(spec, [planned.image_id for planned in found.images])
    names = read_class_names(spec.names) if spec.names else {}
    device = numerics.resolve_device(spec.device)
    store = Store.at(spec.weights)
    checkpoint = store.checkpoint(spec.member)
    framing = checkpoint.preprocessing.framing
    if framing is None:
        raise InputError(f"--member {spec.member}: expected a classifier, found a segmenter")
    network = load(checkpoint)
    layer = find_layer(network, spec.layer, spec.member)
    image_ids: list[str] = []
    rejections: list[Rejection] = []
    features: list[Float32] = []
    run = LayerOutputs(network, layer, checkpoint.preprocessing, device)
    for piece in shards(found.images, _BATCH, _BATCH):
        decoded = decode_crops(piece, found.root, [framing])
        rejections.extend(decoded.rejections)
        if decoded.image_ids:
            image_ids.extend(decoded.image_ids)
            features.append(run(decoded.arrays[0]))
    if len(image_ids) < FEWEST:
        raise InputError(
            f"{spec.source}: t-SNE needs at least {FEWEST} images, found {len(image_ids)} that "
            "can be decoded"
        )
    outputs = np.concatenate(features)
    if not np.ptp(outputs, axis=0).any():
        raise InputError(f"--layer {spec.layer} gives the same for every image: name another")
    points = embed(outputs, spec.seed)
    true = np.array([labels[image_id] for image_id in image_ids], np.int64)
    title = f"t-SNE of {spec.member}'s {spec.layer}, {len(image_ids):,} images"
    draw_tsne(Embedding(points, true, names), title, spec.output)
    return Plotted(len(image_ids), tuple(rejections))


def plot_masks(spec: MasksSpec) -> Plotted:
    """Draw images, their true masks where ``truth`` is given, and each checkpoint's masks.

    With ``tta`` they are those of ``batch segment --tta``, of three views. Images named
    ``*_mask.*`` are masks, and passed over. Raises InputError for more than
    MOST_ROWS images, one that can't be decoded or has no truth, a checkpoint of no segmenter.
    """
    check_output(spec.output)
    found = _to_segment(spec)
    keys = [mask_key(planned.image_id) for planned in found.images]
    truth = _true_masks(spec.truth, keys) if spec.truth else {}
    checkpoints = [read_checkpoint(path) for path in spec.checkpoints]
    for checkpoint in checkpoints:
        if checkpoint.preprocessing.size is not None:
            raise InputError(
                f"{checkpoint.path} is a checkpoint of {checkpoint.member}: expected a segmenter's"
            )
    classes = agreed_classes(checkpoints).coloured()
    device = numerics.resolve_device(spec.device)
    photos = [_photo(found.root / planned.image_id) for planned in found.images]
    views = TTA_VIEWS if spec.tta else ONE_VIEW
    columns = {"image": [_shrunk(photo) for photo in photos]}
    if truth:
        reader = MaskReader(classes)
        columns["truth"] = [_true_picture(truth[key], reader) for key in keys]
    for number, checkpoint in enumerate(checkpoints, 1):
        title = title_of(checkpoint, tta=spec.tta)
        title = f"{title} ({number})" if title in columns else title
        columns[title] = list(_mask_pictures(checkpoint, photos, device, views))
    rows = list(zip(*columns.values(), strict=True))
    draw_pictures(rows, keys, list(columns), spec.output, classes)
    return Plotted(len(photos))


def _labels(spec: TsneSpec, image_ids: Sequence[str]) -> Mapping[str, int]:
    if spec.truth is None:
        return labels_in_names(image_ids)
    labels = read_labels(spec.truth)
    missing = [image_id for image_id in image_ids if image_id not in labels]
    if missing:
        raise InputError(f"{spec.truth}: {len(missing)} images have no label: {some(missing)}")
    return labels


def _to_segment(spec: MasksSpec) -> Found:
    found = find(spec.source, spec.include, spec.exclude, skip=[spec.output])
    images = [each for each in found.images if not Path(each.image_id).stem.endswith("_mask")]
    if not images:
        raise InputError(f"{spec.source}: there are masks alone; expected images")
    if len(images) > MOST_ROWS:
        raise InputError(
            f"{spec.source}: {len(images)} images, and a figure has room for {MOST_ROWS}: choose "
            "with --include, as in --include '0010_sat.jpg'"
        )
    return Found(found.root, images, found.ignored, found.formats)


def _true_masks(folder: Path, keys: Sequence[str]) -> dict[str, Path]:
    masks = find_masks(folder)
    missing = [key for key in keys if key not in masks]
    if missing:
        raise InputError(f"{folder}: {len(missing)} images have no mask: {some(missing)}")
    return masks


def title_of(checkpoint: Checkpoint, *, tta: bool = False) -> str:
    """A checkpoint's name, its folder's too (``early/fcn8s``), and below it what it says.

    Its mIoU is that of one view: with ``tta`` it's left out.
    """
    path = checkpoint.path.absolute()
    title = f"{path.parent.name}/{path.stem}"
    scores = checkpoint.scores
    about = [f"epoch {checkpoint.metadata['epoch']}"] if "epoch" in checkpoint.metadata else []
    about += [f"mIoU {scores['miou']:.4f}"] if "miou" in scores and not tta else []
    about += ["--tta"] if tta else []
    return "\n".join([title, ", ".join(about)]) if about else title


def _photo(path: Path) -> UInt8:
    try:
        return decode_rgb(path)
    except Reject as fault:
        raise InputError(f"{path}: {fault.reason}: {fault.detail}") from fault


def _mask_pictures(
    checkpoint: Checkpoint,
    photos: Sequence[UInt8],
    device: numerics.Device,
    views: Sequence[View],
) -> Iterator[UInt8]:
    import torch

    from ..models.inference import ready
    from ..pipeline.segmentation import mask_of

    precision = numerics.resolve_precision("auto", device)
    profile = numerics.detect(device, precision, 1, numerics.cores())
    with torch.inference_mode():
        predict = ready(checkpoint, profile)
        for photo in photos:
            yield colours_of(
                _thinned(mask_of(predict, photo, checkpoint, views)), checkpoint.classes
            )


def _true_picture(path: Path, reader: MaskReader) -> UInt8:
    thinned = _thinned(reader.read(path).classes)
    # A colour that is no class's has none to be drawn in: that of the unlabelled, or black.
    table = np.zeros((FOREIGN + 1, 3), np.uint8)
    palette = palette_of(reader.classes)
    table[: len(palette)] = palette
    if reader.classes.unlabelled is not None:
        table[FOREIGN] = palette[reader.classes.unlabelled]
    return table[thinned]


def _step(picture: UInt8) -> int:
    height, width = picture.shape[:2]
    return int(max(1, max(height, width) // _SIDE))


def _thinned(classes: UInt8) -> UInt8:
    """Classes for a figure: classes between two others are none, so pixels are left out."""
    step = _step(classes)
    return classes[::step, ::step]


def _shrunk(photo: UInt8) -> UInt8:
    return np.asarray(Image.fromarray(photo).reduce(_step(photo)))
