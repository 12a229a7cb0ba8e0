"""Folders import downwards only, one module imports Ray, and no folder is a drawer."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = (
    "commands",
    "plotting",
    "training",
    "evaluation",
    "jobs",
    "execution",
    "pipeline",
    "models",
    "core",
)
TOP = ("__init__.py", "__main__.py", "api.py", "cli.py")  # above all folders
CODELESS = ("weights",)  # checkpoints; an __init__.py makes it part of the wheel
RAY = "execution/ray_engine.py"
LARGEST_SHARE = 0.25


def modules(root: Path) -> dict[str, ast.Module]:
    """The package's modules, by path from the root: those at the top, and those of packages."""
    paths = [root / name for name in TOP if (root / name).exists()]
    paths += [path for init in root.glob("*/__init__.py") for path in init.parent.rglob("*.py")]
    return {str(path.relative_to(root)): ast.parse(path.read_text("utf-8")) for path in paths}


def imported(name: str, tree: ast.Module) -> Iterator[str]:
    """All that a module imports, wherever in it, as dotted names: of hw1 from ``hw1.`` on."""
    package = ("hw1", *Path(name).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def place(folder: str) -> int:
    """A folder's place from the top; what lies above all of them has -1."""
    return LAYERS.index(folder) if folder in LAYERS else -1


def faults(root: Path) -> list[str]:
    """What is against the rules of importing, a line each."""
    found = []
    for name, tree in modules(root).items():
        folder = name.split("/")[0] if "/" in name else ""
        if folder and folder not in (*LAYERS, *CODELESS):
            found.append(f"{folder}: has no place among {', '.join(LAYERS)}")
        if folder in CODELESS and tree.body[1:]:
            found.append(f"{name}: holds code")
        for target in imported(name, tree):
            top, _, rest = target.partition(".")
            below = rest.split(".")[0]
            if top == "ray" and name != RAY:
                found.append(f"{name}: imports {target}; {RAY} alone imports Ray")
            if top != "hw1" or below in (folder, "__version__", *CODELESS):
                continue
            if folder and place(below) <= place(folder):
                found.append(f"{name}: imports {target}, which is not below")
    return sorted(set(found))


def shares(root: Path) -> dict[str, float]:
    """The part of the package's lines that each folder holds; '' is the top level."""
    lines = Counter[str]()
    for name in modules(root):
        lines[name.rpartition("/")[0].split("/")[0]] += (root / name).read_bytes().count(b"\n")
    return {folder: count / lines.total() for folder, count in lines.items()}


def test_folders_import_downwards_only() -> None:
    assert faults(ROOT) == []


def test_no_folder_is_a_drawer() -> None:
    assert max(shares(ROOT).values()) <= LARGEST_SHARE


def test_every_folder_is_looked_at() -> None:
    assert {name.split("/")[0] for name in modules(ROOT)} == {*LAYERS, *CODELESS, *TOP}


@pytest.mark.parametrize(
    ("name", "line", "fault"),
    [
        ("jobs/run.py", "from ..commands.report import x", "hw1.commands.report.x, which is not"),
        ("core/text.py", "from .. import jobs", "hw1.jobs, which is not below"),
        ("core/text.py", "import hw1.jobs.run", "hw1.jobs.run, which is not below"),
        ("core/text.py", "from hw1.jobs import run", "hw1.jobs.run, which is not below"),
        ("pipeline/a.py", "def f():\n    from ..jobs.job import Job", "hw1.jobs.job.Job, which"),
        ("models/a.py", "if TYPE_CHECKING:\n    from ..jobs import job", "hw1.jobs.job, which is"),
        ("models/deep/a.py", "from ...pipeline import find", "hw1.pipeline.find, which is not"),
        ("jobs/a.py", "from ..cli import main", "hw1.cli.main, which is not below"),
        ("jobs/a.py", "import ray.exceptions", "execution/ray_engine.py alone imports Ray"),
        ("execution/a.py", "from ray import get", "execution/ray_engine.py alone imports Ray"),
        ("drawer/a.py", "", "drawer: has no place"),
        ("weights/a.py", '"""A docstring."""\nX = 1', "weights/a.py: holds code"),
    ],
)
def test_what_breaks_a_rule_is_found(name: str, line: str, fault: str, tmp_path: Path) -> None:
    allowed = '"""A module."""\nfrom .. import __version__\nfrom ..core.text import shown\n'
    write(tmp_path, "commands/b.py", allowed)
    assert faults(tmp_path) == []
    write(tmp_path, name, line)
    found = faults(tmp_path)
    assert len(found) == 1
    assert fault in found[0]


def test_lines_are_counted_by_folder(tmp_path: Path) -> None:
    write(tmp_path, "jobs/a.py", "X = 1\n" * 15)
    write(tmp_path, "core/deep/b.py", "X = 1\n" * 4)
    (tmp_path / "cli.py").write_text("X = 1\n")
    assert shares(tmp_path) == {"jobs": 0.75, "core": 0.2, "": 0.05}


def write(root: Path, name: str, content: str) -> None:
    """Write a module, in packages."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in (path.parent, root / Path(name).parts[0]):
        (folder / "__init__.py").touch()
    path.write_text(content)
