"""Programs that are started with streams closed, or in a folder that is gone."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

LIST = (sys.executable, "-m", "hw1", "jobs", "list")


@pytest.mark.parametrize("closed", ["2>&-", "0<&-", "0<&- 2>&-"])
def test_a_closed_stream_is_not_taken_for_the_next_file(tmp_path: Path, closed: str) -> None:
    program = """if True:
        import os, sys
        sys.argv = ["hw1", "--version"]
        from hw1.cli import main
        try:
            main()
        except SystemExit as end:
            print("code", end.code, min(os.open("/dev/null", os.O_RDONLY), 3))
        # What Ray looks for, here and in the processes that it starts.
        files = sys.stdin.fileno(), sys.stdout.fileno(), sys.stderr.fileno()
        print(*files, *map(os.get_inheritable, files))
    """
    script = tmp_path / "program.py"
    script.write_text(program)
    done = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" "{script}" {closed}'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-2:] == ["code 0 3", "0 1 2 True True True"]


def test_a_job_through_ray_needs_no_stderr(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    source, output = str(tmp_path / "a.png"), str(tmp_path / "out.csv")
    words = ["batch", "classify", source, output, "--ensemble", "fast"]
    command = shlex.join([sys.executable, "-m", "hw1", *words])
    done = subprocess.run(
        ["/bin/sh", "-c", f"{command} 2>&-"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 of 1 images scored" in done.stdout


def test_a_folder_that_was_removed_is_reported(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run(
        ["/bin/sh", "-c", f'rmdir "{gone}"; exec "$@"', "sh", *LIST, str(tmp_path)],
        cwd=gone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "hw1: the current folder was removed: change to one that is there, then try again\n"
    )
