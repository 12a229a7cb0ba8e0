"""Labels: every image's, in order, in one CSV."""

import io
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fakes import write_grey
from hw1.core.errors import Refused
from hw1.jobs.inspect import verify, view
from tiny_jobs import COUNT, expected, rows_of, run, spec_of


def test_every_image_gets_its_label_in_order(images: Path) -> None:
    summary = run(spec_of(images))
    assert rows_of(images.parent / "out.csv") == expected()
    assert (summary.planned, summary.scored, summary.rejected) == (COUNT, COUNT, 0)
    assert verify(summary.job) == []
    assert view(summary.job).state == "done"


def test_shard_size_changes_no_byte(images: Path) -> None:
    run(spec_of(images))
    run(spec_of(images, output=images.parent / "other.csv", shard_size=10))
    assert (images.parent / "out.csv").read_bytes() == (images.parent / "other.csv").read_bytes()


def test_a_file_that_is_not_ours_is_never_replaced(images: Path) -> None:
    output = images.parent / "out.csv"
    output.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(Refused, match="exists"):
            run(spec_of(images, overwrite=overwrite))
        assert output.read_text() == "mine"
        assert not output.with_name("out.csv.job").exists()


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0") | st.sampled_from("\r\n,\"' \udcff"),
    min_size=1,
    max_size=20,
).filter(lambda name: not name.startswith("."))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(names=st.sets(NAMES, min_size=1, max_size=5))
def test_any_name_comes_back_from_the_csv(tmp_path: Path, names: set[str]) -> None:
    folder = tmp_path / "any"
    shutil.rmtree(folder, ignore_errors=True)
    content = io.BytesIO()
    Image.new("L", (3, 3), 120).save(content, "PNG")
    (folder / "in").mkdir(parents=True)
    for name in names:
        (folder / "in" / f"{name}.png").write_bytes(content.getvalue())
    run(spec_of(folder / "in"))
    ids = [row[0] for row in rows_of(folder / "out.csv")[1:]]
    assert ids == sorted((f"{name}.png" for name in names), key=os.fsencode)


def test_names_that_a_spreadsheet_runs_are_made_text_where_asked_for(images: Path) -> None:
    names = ["=1+1.png", "+a.png", "-b.png", "@c.png", "\td.png", "\re.png", "f=.png"]
    for name in names:
        write_grey(images / name, 30)
    plain = run(spec_of(images))
    assert {row[0] for row in rows_of(plain.output)} > set(names)  # as they are, by default
    safe = run(spec_of(images, safe_csv=True, overwrite=True))
    found = {row[0] for row in rows_of(safe.output)}
    assert {f"'{name}" for name in names[:-1]} < found
    assert found.isdisjoint(names[:-1])
    assert "f=.png" in found
    assert verify(safe.job) == []
    with pytest.raises(Refused, match="safe_csv on, now off"):
        run(spec_of(images))
