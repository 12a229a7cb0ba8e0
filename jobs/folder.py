"""The job folder: what a job was asked, what it planned, what it has done, and who runs it."""

import errno
import fcntl
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import msgspec

from ..core.durable import make_folder, storage, sweep, write_bytes
from ..core.errors import EnvironmentFault, InputError, Refused
from ..core.records import Committed, TaskKind
from .ledger import Ledger, read_ledger
from .record import JobRecord, decode, encode

DESCRIPTION = "job.json"
BEGUN = "begun.json"
"""A copy of job.json as the job was begun, or updated last."""

_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def job_path(task: TaskKind, output: Path) -> Path:
    """The folder of the job that writes ``output``: OUT.csv.job, or MASKS/.job."""
    if task == "segment":
        return output / ".job"
    return output.with_name(output.name + ".job")


def output_path(job: Path) -> Path:
    """The output beside a job's folder, where both lie now: they may have been copied or moved."""
    job = job.absolute()
    return job.parent if job.name == ".job" else job.with_name(job.name.removesuffix(".job"))


class JobFolder:
    """A job's folder on the disk. Everything in it is plain text that a person can read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def output(self) -> Path:
        """Where the job's result lies now: beside the folder, or around it."""
        return output_path(self.path)

    @property
    def ledger_path(self) -> Path:
        """The file with a line for each committed shard."""
        return self.path / "ledger.jsonl"

    @property
    def rejected_path(self) -> Path:
        """The CSV of the images that got no prediction, and why."""
        return self.path / "rejected.csv"

    def exists(self) -> bool:
        """Whether a job was begun here: its description is written when its plan is frozen."""
        return any((self.path / name).exists() for name in (DESCRIPTION, BEGUN))

    def read(self) -> JobRecord:
        """The job's record: the one that it was begun with where job.json is damaged.

        Raises EnvironmentFault where both are damaged, Refused where job.json is too new.
        """
        try:
            return self._read(DESCRIPTION)
        except EnvironmentFault:
            with suppress(EnvironmentFault):
                return self._read(BEGUN)
            raise

    def repair(self) -> bool:
        """Make job.json again where it is damaged, and the copy where there is none.

        Returns whether job.json was damaged. Raises as ``read``.
        """
        try:
            record = self._read(DESCRIPTION)
        except EnvironmentFault:
            self.write(self.read())
            return True
        if not (self.path / BEGUN).exists():  # a job begun earlier
            self.keep(record)
        return False

    def keep(self, record: JobRecord) -> None:
        """Keep a copy of the record, which only an update changes: a spare for job.json."""
        spare = msgspec.structs.replace(record, state="running", error=None, written=[])
        write_bytes(self.path / BEGUN, [encode(spare)])

    def _read(self, name: str) -> JobRecord:
        path = self.path / name
        try:
            with storage(path):
                if path.is_dir():
                    raise ValueError("a folder")
                return decode(path.read_bytes(), str(path))
        except (ValueError, RecursionError) as error:
            raise EnvironmentFault(
                f"{path}: expected a job's description, found something else ({error}). The "
                "storage damaged it: give the same command with --overwrite to begin again"
            ) from error

    def lies_where_written(self, record: JobRecord) -> bool:
        """Whether the output is where its job wrote it, not a copy of it or moved since.

        Only then are the paths elsewhere that the record names (scores, overlays) its own.
        """
        written = Path(record.output)
        return os.path.realpath(written) == os.path.realpath(self.output)

    def write(self, record: JobRecord) -> JobRecord:
        """Write job.json, which is always whole: with it the job is begun, and can be resumed."""
        write_bytes(self.path / DESCRIPTION, [encode(record)])
        return record

    def update(self, **changes: Any) -> JobRecord:
        """Write job.json with these changes."""
        return self.write(msgspec.structs.replace(self.read(), **changes, updated=now()))

    def ledger(self) -> Ledger:
        """The ledger, to be opened for appending."""
        return Ledger(self.ledger_path)

    def committed(self) -> dict[int, Committed]:
        """The ledger's shards, by id."""
        return read_ledger(self.ledger_path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the job alone; Refused where another process does, InputError for a bad place.

        The operating system lets the lock go when its holder dies, however it dies.
        """
        path = self.path / "lock"
        try:
            make_folder(self.path / "parts")
            file = path.open("a+")
        except (EnvironmentFault, OSError) as error:
            reason = error.__cause__ or error
            machines = getattr(reason, "errno", None) in _OF_THE_MACHINE
            kind = EnvironmentFault if machines else InputError
            raise kind(f"{self.path}: the job's folder cannot be made: {reason}") from error
        with file:
            if not (_try_lock(file) and _is_at(file, path)):
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise Refused(
                    f"{self.path}: this job is being run by {holder}. Wait for it, or stop it "
                    "and give the same command again"
                )
            with storage(path):
                file.truncate(0)
                # Not through the buffer, which would be tried again, and fail, on closing.
                os.write(file.fileno(), f"process {os.getpid()} on {platform.node()}\n".encode())
            for folder in (self.path, self.path / "parts"):
                sweep(folder)
            yield

    def is_running(self) -> bool:
        """Whether a process holds the job now; EnvironmentFault where that can't be known."""
        try:
            with (self.path / "lock").open() as file:  # one may look who may not write
                return not _try_lock(file, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False

    def clear(self) -> None:
        """Remove what a job left here, all but the lock, which its holder keeps."""
        # The descriptions first: without them the folder counts as empty, if we are killed now.
        with storage(self.path):
            for name in (BEGUN, DESCRIPTION):
                _remove(self.path / name)
            for path in self.path.iterdir():
                if path.name != "lock":
                    _remove(path)
        make_folder(self.path / "parts")

    def remove(self) -> None:
        """Remove the folder of a job that never began, and an empty MASKS/ around it."""
        with storage(self.path):
            shutil.rmtree(self.path)
            if self.path.name == ".job" and not any(self.path.parent.iterdir()):
                self.path.parent.rmdir()


def _remove(path: Path) -> None:
    """Remove a file, or a folder that damage, or a person, put in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _try_lock(file: IO[str], kind: int = fcntl.LOCK_EX) -> bool:
    """Take the file's lock, waiting half a second for one who only looks whether it's held.

    Raises EnvironmentFault where the storage has no locks.
    """
    for pause in (0.1, 0.4, 0.0):
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause)
        except OSError as error:
            raise EnvironmentFault(
                f"{file.name}: {error.strerror}: this storage can't lock files, by which hw1 knows "
                "who runs a job: repair it, or give an output elsewhere"
            ) from error
        else:
            return True
    return False


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether the path is still the opened file's: its folder may go while we wait for the lock."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def now() -> str:
    """The time, UTC, as job.json has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
