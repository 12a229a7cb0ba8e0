"""Programs that are started with streams closed, or in a folder that is gone."""

import subprocess
import sys
from pathlib import Path

import pytest

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
    """
    script = tmp_path / "program.py"
    script.write_text(program)
    done = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" "{script}" {closed}'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "code 0 3"


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
