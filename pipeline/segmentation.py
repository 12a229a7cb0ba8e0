"""The segmenter's work on a shard: photos, masks as PNG files, their digests as rows."""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..core import numerics
from ..core.classes import REFERENCE_SEGMENTER, Classes
from ..core.durable import make_folder, sync_folders, write_bytes
from ..core.records import Committed, Decoded, Predicted, Predictor, Shard, UInt8, Written
from ..core.spec import MaskFormat, SegmentSpec
from ..models.checkpoints import Checkpoint, keep_copies
from ..models.members import SEGMENTERS
from .classification import require_finite_outputs
from .decode_pieces import decode_photos, sample_of
from .masks import colours_of, palette_of
from .names import output_name
from .parts import FileStamps, commit_part, stamp
from .rows import format_row
from .views import ONE_VIEW, TTA_VIEWS, View

if TYPE_CHECKING:
    import torch

    from ..models.inference import Predict

PIECE_BYTES = 64 * 2**20
"""Pixels, in bytes, that a piece holds at most, unless a single image has more."""


@dataclass(frozen=True, slots=True)
class SegmentWork:
    """Write a mask for each image below ``root``, and a blend of both where ``overlay`` is given.

    Parts go to the job's folder. The spec's paths are as a person wrote them, perhaps relative to
    another folder than a worker's: ``masks`` and ``overlay`` are absolute.
    """

    spec: SegmentSpec
    root: Path
    folder: Path
    masks: Path
    overlay: Path | None
    checkpoint: Checkpoint
    profile: numerics.Profile

    def decode(self, piece: Shard) -> Decoded:
        """Decode the piece's images, or those at its beginning that memory has room for."""
        together = self.profile.batch_size
        return decode_photos(
            piece, self.root, PIECE_BYTES, together=together, reading=self.spec.tiff
        )

    def sample(self) -> Decoded:
        """A pattern, of a size that needs padding."""
        return sample_of((40, 72, 3))

    def load(self) -> Predictor:
        """Load the segmenter."""
        return MaskPredictor(self)

    def finish(self) -> None:
        """Keep copies, in the cache, of checkpoints in old files."""
        keep_copies([self.checkpoint])

    def write(self, predicted: Predicted) -> Written:
        """Write the piece's masks (and overlays), durably; rows are ``image_id,sha256``."""
        count = len(predicted.image_ids)
        masks, photos = predicted.arrays[:count], predicted.arrays[count:]
        rows: list[str] = []
        stamps: list[str] = []
        folders = set()
        for index, image_id in enumerate(predicted.image_ids):
            name = output_name(image_id, ".png", self.spec.keep_suffix)
            png = encode_mask(masks[index], self.spec.mask_format, self.checkpoint.classes)
            files = {self.masks / name: png}
            if self.overlay is not None:
                blended = blend(photos[index], masks[index], self.checkpoint.classes)
                files[self.overlay / name] = _png(Image.fromarray(blended))
            for file, content in files.items():
                make_folder(file.parent)
                write_bytes(file, [content], sync_folder=False, scratch=self.folder / "parts")
                folders.add(file.parent)
            digests = [hashlib.sha256(content).hexdigest() for content in files.values()]
            rows.append(format_row((image_id, digests[0])))
            seen = [stamp(file) for file in files]
            both = (digests[-1], seen[-1]) if self.overlay else ()
            stamps.append(FileStamps(seen[0], *both).line(image_id))
        sync_folders(folders)
        return Written(predicted.piece, tuple(rows), predicted.rejections, files=tuple(stamps))

    def commit(self, shard: Shard, pieces: Sequence[Written], seconds: float) -> Committed:
        """Write the shard's part."""
        return commit_part(self.folder, shard, pieces, seconds)


class MaskPredictor:
    """The segmenter, loaded. An image has forward passes of its own: one, or one a tile and view.

    So its mask depends on no other image's pixels. With a batch size above 1 in the profile (on a
    GPU) those of the plan's images [kB, (k+1)B) that are in a piece, where they are of one size and
    small, go through the network together, each at its place, blanks elsewhere. Raises InputError
    for a bad checkpoint, EnvironmentFault where this machine cannot meet the numerics profile.
    """

    def __init__(self, work: SegmentWork) -> None:
        import torch

        from ..models.inference import ready

        numerics.require(work.profile)
        self._work = work
        with torch.inference_mode():
            self._ready = ready(work.checkpoint, work.profile)

    def __call__(self, decoded: Decoded) -> Predicted:
        """Predict the piece's masks: uint8 (H, W) classes for each image."""
        import torch

        from ..models.inference import memory_faults

        views = TTA_VIEWS if self._work.spec.tta else ONE_VIEW
        with torch.inference_mode(), memory_faults("give fewer --actors, or --device cpu"):
            masks = tuple(chain(*(self._masks(*group, views) for group in self._groups(decoded))))
        photos = decoded.arrays if self._work.overlay is not None else ()
        return Predicted(decoded.piece, decoded.image_ids, (*masks, *photos), decoded.rejections)

    def _groups(self, decoded: Decoded) -> Iterator[tuple[list[UInt8], list[int]]]:
        """The images of each batch that are in the piece, and their places in it."""
        batch = self._work.profile.batch_size
        pairs = zip(decoded.positions, decoded.arrays, strict=True)
        for _, group in groupby(pairs, lambda pair: pair[0] // batch):
            members = list(group)
            yield [image for _, image in members], [at % batch for at, _ in members]

    def _masks(self, images: list[UInt8], slots: list[int], views: Sequence[View]) -> list[UInt8]:
        """The masks of a group's images: in a batch where all are alike, else one by one."""
        from .tiles import fits_batch, segment_images

        checkpoint, batch = self._work.checkpoint, self._work.profile.batch_size
        height, width = images[0].shape[:2]
        alike = all(image.shape == images[0].shape for image in images)
        preprocessing = checkpoint.preprocessing
        together = batch > 1 and checkpoint.architecture in SEGMENTERS and alike
        if not together or not fits_batch((height, width), preprocessing, views, batch):
            return [mask_of(self._ready, image, checkpoint, views) for image in images]
        return segment_images(
            _checked(self._ready, checkpoint),
            images,
            preprocessing,
            self._ready.device,
            views=views,
            slots=slots,
            batch=batch,
        )


def mask_of(
    ready: "Predict", image: UInt8, checkpoint: Checkpoint, views: Sequence[View] = ONE_VIEW
) -> UInt8:
    """The classes, uint8 (H, W), of an image: of FCN8s and FCN32s seamless, however large."""
    from .blended import segment_blended
    from .tiles import segment_image

    segment = segment_image if checkpoint.architecture in SEGMENTERS else segment_blended
    network = _checked(ready, checkpoint)
    return segment(network, image, checkpoint.preprocessing, ready.device, views=views)


def _checked(ready: "Predict", checkpoint: Checkpoint) -> "Callable[[torch.Tensor], torch.Tensor]":
    """The network, whose outputs have to be finite."""

    def logits(inputs: "torch.Tensor") -> "torch.Tensor":
        found = ready.logits(inputs)
        require_finite_outputs(found, checkpoint)
        return found

    return logits


def encode_mask(
    index: UInt8, mask_format: MaskFormat, classes: Classes = REFERENCE_SEGMENTER
) -> bytes:
    """A mask as a PNG file: 24-bit RGB, 8-bit palette, or 8-bit grey that holds the class."""
    if mask_format == "rgb":
        return _png(Image.fromarray(colours_of(index, classes)))
    image = Image.fromarray(index)
    if mask_format == "palette":
        image.putpalette(palette_of(classes).tobytes())
    return _png(image)


def blend(photo: UInt8, index: UInt8, classes: Classes = REFERENCE_SEGMENTER) -> UInt8:
    """The photo (H, W, 3) with its mask's colours laid over it, half and half."""
    return ((photo.astype(np.uint16) + colours_of(index, classes)) // 2).astype(np.uint8)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    # Level 1: masks are flat, so higher levels cost several times the time and save little.
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
