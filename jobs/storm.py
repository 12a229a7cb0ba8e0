"""Storms: images that are gone or forbidden because their storage is, which is no fault of theirs.

A folder that was unmounted in the middle of a job, or whose permissions were lost, would have all
its images rejected. Shards with such images are held back from the ledger; where they are many the
job stops, and the same command does them again.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import EnvironmentFault
from ..core.records import Committed, Planned, Rejection
from ..core.text import shown
from ..pipeline.parts import read_rejections
from ..pipeline.source import neighbours_are_read
from .generations import Plans

MANY = 10
"""Images that were lost with their folders, that stop a job."""


class Storm:
    """Decides which shards may be entered in the ledger of the job in folder ``job``."""

    def __init__(self, job: Path, root: Path, plans: Plans) -> None:
        self._job = job
        self._root = root
        self._plans = plans
        self._devices: dict[Path, int] = {}
        self._learn(root)
        self._held: list[Committed] = []
        self._lost: list[str] = []

    def admits(self, entry: Committed) -> bool:
        """Whether a shard may be entered; it is held back where images went with their folder.

        Raises EnvironmentFault where these are many.
        """
        rejections = list(read_rejections(self._job, entry.shard)) if entry.rejected else []
        found = [why for rejection in rejections if (why := self._storage_fault(rejection, entry))]
        if not found:
            rejected = {rejection.image_id for rejection in rejections}
            for image in self._images(entry):
                if image.image_id not in rejected:
                    self._learn((self._root / image.image_id).parent)
            return True
        self._held.append(entry)
        self._lost += found
        if len(self._lost) >= MANY:
            raise self._stop()
        return False

    def rest(self) -> list[Committed]:
        """The shards held back, when there is no other: few images went with their folders.

        Raises EnvironmentFault where IN itself went, or what a worker missed is there.
        """
        if not self._held:
            return []
        if any(self._is_there(entry) for entry in self._held) or _fault(self._root, self._devices):
            raise self._stop()
        return self._held

    def _stop(self) -> EnvironmentFault:
        return EnvironmentFault(
            f"{len(self._lost)} images or more can't be reached, for their storage can't: "
            f"{self._lost[-1]}. None of them is rejected. Mount it, or have its permissions "
            "restored, and give the same command again; where they are gone for good, add "
            "--accept-gone"
        )

    def _images(self, entry: Committed) -> Sequence[Planned]:
        return self._plans.images(entry)

    def _is_there(self, entry: Committed) -> bool:
        return any(
            os.access(self._root / rejection.image_id, os.R_OK)
            for rejection in read_rejections(self._job, entry.shard)
            if rejection.reason in ("gone", "unreadable")
        )

    def _storage_fault(self, rejection: Rejection, entry: Committed) -> str:
        """What is wrong with an image's folder, or with who looked; "" for the image's fault."""
        if rejection.reason not in ("gone", "unreadable"):
            return ""
        path = self._root / rejection.image_id
        planned = next(i for i in self._images(entry) if i.image_id == rejection.image_id)
        if planned.size == -1:  # a line of a list: it never was there; or it's stale
            return ""
        if os.access(path, os.R_OK):
            return f"{shown(str(path))} is {rejection.reason} for a worker, though it is here"
        if why := _fault(path.parent, self._devices):
            return why
        if rejection.reason == "unreadable" and not neighbours_are_read(path):
            return f"no file in {shown(str(path.parent))} can be read"
        return ""

    def _learn(self, folder: Path) -> None:
        """Remember which device a folder is on, as long as its images are read."""
        if folder not in self._devices:
            try:
                self._devices[folder] = folder.stat().st_dev
            except OSError:  # it went just now; its next images will show it
                return


def _fault(folder: Path, devices: dict[Path, int]) -> str:
    """What is wrong with a folder, "" for nothing. An empty one is what an unmount leaves."""
    name = shown(str(folder))
    try:
        device = folder.stat().st_dev
    except OSError as error:
        return f"{name}: {error.strerror}"
    if devices.get(folder, device) != device:
        return f"{name} is on another device than before"
    if not os.access(folder, os.X_OK):
        return f"{name} may not be searched"
    try:
        with os.scandir(folder) as entries:
            return "" if next(entries, None) else f"{name} is empty"
    except PermissionError:  # one may read files in there whose names one may not list
        return ""
    except OSError as error:
        return f"{name}: {error.strerror}"
