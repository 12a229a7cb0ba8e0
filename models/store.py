"""A folder with checkpoints: what is found there, and the ensembles that they form."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from ..core.errors import InputError
from ..core.text import some
from .checkpoints import READERS, Checkpoint, read_checkpoint
from .ensemble import BEST, FILE, FILE_STEM, REFERENCE, Ensemble, is_file_name, of, read_ensemble
from .members import CLASSIFIERS, MEMBERS, Member, find_member
from .shipped import SHIPPED, fetched_folder, read_index


class Store:
    """A folder with checkpoints: ``MEMBER.safetensors``, the reference's names, files of any name.

    Members are named by a word: a preset's name, or that of a file in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise InputError(f"no folder {folder}: expected one with checkpoints")
        ours = folder == SHIPPED or (folder / FILE).is_file() or any(map(self.find, MEMBERS))
        if not ours and not any(is_file_name(path.name) for path in folder.iterdir()):
            raise InputError(
                f"no checkpoint in {folder}: expected files such as vgg16.safetensors or "
                f"{MEMBERS['vgg16'].reference_file}"
            )

    @classmethod
    def shipped(cls) -> "Store":
        """The checkpoints that come with hw1."""
        return cls(SHIPPED)

    @classmethod
    def at(cls, folder: Path | None) -> "Store":
        """The checkpoints of a folder, or of None: those that come with hw1.

        Absolute: a worker may run in another folder.
        """
        return cls.shipped() if folder is None else cls(folder.absolute())

    def find(self, member: str) -> Path | None:
        """The member's file, if there is one; ours goes before the reference's.

        What doesn't come with hw1 may have been fetched.
        """
        fetched = fetched_folder() if self.folder == SHIPPED else None
        for folder in (self.folder, *([fetched] if fetched else [])):
            for name in MEMBERS[member].file_names if member in MEMBERS else (member,):
                if (folder / name).is_file():
                    return folder / name
        return None

    def checkpoint(self, member: str) -> Checkpoint:
        """The member's checkpoint, its file hashed, its tensors not yet read.

        Raises InputError for an unknown member, one without a checkpoint, a damaged header.
        """
        if not is_file_name(member):
            self.member(member)
        path = self.find(member)
        if path is None:
            raise InputError(_missing(member, self.folder))
        if member in MEMBERS:
            return read_checkpoint(path, member)
        return replace(read_checkpoint(path), member=member)

    def member(self, name: str) -> Member:
        """The preset of this name. Raises InputError, which names the files here, for another."""
        try:
            return find_member(name)
        except InputError as error:
            files = self.files()
            held = f"; files in {self.folder}: {some(files)}" if files else ""
            raise InputError(f"{error}{held}") from error

    def available(self) -> list[Checkpoint]:
        """The presets' checkpoints here, in the order of the table of members."""
        return [self.checkpoint(member) for member in MEMBERS if self.find(member)]

    def files(self) -> list[str]:
        """The names of the checkpoints' files here that aren't presets', sorted."""
        presets = {name for member in MEMBERS for name in MEMBERS[member].file_names}
        names = (path.name for path in self.folder.iterdir() if path.is_file())
        return sorted(n for n in names if is_file_name(n) and n not in presets and n[0] != ".")

    def ensemble(self, members: Sequence[str] | None = None, name: str = BEST) -> Ensemble:
        """Who votes, with which weights, and by what.

        Without ``members``: as ``ensemble.toml`` says; where there is none, all classifiers that
        have a checkpoint here, with the reference's weights, or 1 for one that the reference
        hasn't; where no preset has one, all files here, with weight 1. ``name`` is another
        ensemble's: ``ensemble-NAME.toml``, or "reference": the reference's eight. With ``members``:
        those, with the weights of ``ensemble.toml``, or 1 where there is none above 0. Raises
        InputError for an unknown, repeated or missing member, or ensemble, and a bad file.
        """
        toml = self.folder / FILE
        if members is None and name != BEST:
            return self._complete(*self._named(name))
        known = read_ensemble(toml) if toml.is_file() else REFERENCE
        vote_weights = dict(zip(known.members, known.vote_weights, strict=True))
        if members is not None:
            self.require_classifiers(members)
            vote_weights = {name: vote_weights.get(name, 1.0) for name in members}
            return self._complete(of(vote_weights, known.vote), "")
        if known is REFERENCE:
            vote_weights = {n: vote_weights.get(n, 1.0) for n in CLASSIFIERS if self.find(n)}
            vote_weights = vote_weights or dict.fromkeys(self.files(), 1.0)
            if not vote_weights:
                raise InputError(f"no classifier's checkpoint in {self.folder}: {_how('MEMBER')}")
        return self._complete(of(vote_weights, known.vote), f", which {toml} lists")

    def ensemble_names(self) -> list[str]:
        """The names of the folder's ensembles besides its default."""
        files = sorted(self.folder.glob(f"{FILE_STEM}-*.toml"))
        return [*(path.stem.removeprefix(f"{FILE_STEM}-") for path in files), "reference"]

    def require_classifiers(self, members: Sequence[str]) -> None:
        """Raise InputError for no names, one that is unknown, no classifier's, or given twice."""
        if not members:
            raise InputError("no members: give at least one of " + ", ".join(CLASSIFIERS))
        for name in members:
            if not is_file_name(name) and self.member(name).task != "classify":
                raise InputError(f"{name} is a segmenter: expected among {', '.join(CLASSIFIERS)}")
            if list(members).count(name) > 1:
                raise InputError(f"{name} is named twice: its weight is set in {FILE}")

    def _named(self, name: str) -> tuple[Ensemble, str]:
        """An ensemble that isn't the default, and where it comes from, for an error."""
        if name == "reference":
            return REFERENCE, ", one of the reference's eight"
        path = self.folder / f"{FILE_STEM}-{name}.toml"
        if Path(name).name != name or not path.is_file():
            names = " or ".join((BEST, *self.ensemble_names()))
            raise InputError(f"no ensemble {name!r} in {self.folder}: expected {names}")
        return read_ensemble(path), f", which {path} lists"

    def _complete(self, ensemble: Ensemble, asked: str) -> Ensemble:
        """The ensemble; InputError where a member has no checkpoint here."""
        for member in ensemble.members:
            if not self.find(member):
                raise InputError(_missing(member, self.folder, asked))
        return ensemble


def checkpoints_of(store: Store, members: Sequence[str]) -> tuple[Checkpoint, ...]:
    """The members' checkpoints, their files hashed side by side. Raises as `Store.checkpoint`."""
    with ThreadPoolExecutor(READERS) as readers:
        return tuple(readers.map(store.checkpoint, members))


def _missing(member: str, folder: Path, asked: str = "") -> str:
    if member not in MEMBERS:
        return f"no file {member} in {folder}{asked}: expected a checkpoint there"
    names = MEMBERS[member].file_names
    found = f"neither {names[0]} nor {names[1]} is" if len(names) > 1 else f"no {names[0]} is"
    return f"no checkpoint of {member}{asked}: {found} in {folder}. {_how(member)}"


def _how(member: str) -> str:
    """How one gets a checkpoint."""
    task = MEMBERS[member].task if member in MEMBERS else "classify"
    option = "--model" if task == "segment" else "--member"
    fetch = f"Fetch it (hw1 models fetch {member}), or train" if member in read_index() else "Train"
    return (
        f"{fetch} it (hw1 train {task} DATA {option} {member}), convert one (hw1 models import "
        f"OLD.pth --member {member}), or name the folder that has it (--weights DIR)"
    )
