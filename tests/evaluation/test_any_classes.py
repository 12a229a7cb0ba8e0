"""Results of any classes: names or numbers, masks by colour or by index, how sure a score is."""

import csv
import json
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from hw1.commands.evaluate import evaluate
from hw1.core.errors import InputError
from hw1.evaluation.evaluate import evaluate_classify, evaluate_segment
from hw1.evaluation.intervals import bootstrap, wilson
from hw1.pipeline.masks import COLOURS

PETS = "index,name\n0,cat\n1,dog\n2,fish\n"
BUILDINGS = "name,r,g,b\nnone,0,0,0\nbuilding,255,255,255\n"


@pytest.fixture
def out(tmp_path):
    """A result of three classes with its job."""
    job = tmp_path / "out.csv.job"
    job.mkdir()
    (job / "classes.csv").write_text(PETS)
    path = tmp_path / "out.csv"
    path.write_text("image_id,label,name\na.png,0,cat\nb.png,2,fish\n")
    return path


def save(path, pixels, palette=None):
    path.parent.mkdir(exist_ok=True)
    image = Image.fromarray(np.array(pixels, np.uint8))
    if palette is not None:
        image.putpalette(np.array(palette, np.uint8).tobytes())
    image.save(path)


@pytest.mark.parametrize("text", ["a.png,cat\nb.png,dog\n", "image,label\na.png,0\nb.png,1\n"])
def test_the_truth_may_have_names_or_numbers(tmp_path, out, text):
    (tmp_path / "t.csv").write_text(text)
    report = evaluate_classify(out, tmp_path / "t.csv")
    assert (report.accuracy, report.classes.names) == (0.5, ("cat", "dog", "fish"))
    assert report.confusion.shape == (3, 3)


def test_the_truth_may_lie_in_folders_named_as_classes(tmp_path, out):
    out.write_text("image_id,label\ncat/a.png,0\ndog/b.png,2\n")
    for name in ("cat/a.png", "dog/b.png"):
        (tmp_path / "true" / name).parent.mkdir(parents=True)
        Image.new("RGB", (2, 2)).save(tmp_path / "true" / name)
    assert evaluate_classify(out, tmp_path / "true").accuracy == 0.5


def test_classes_named_as_other_numbers_are_read_as_names(tmp_path, out):
    (tmp_path / "c.csv").write_text("name\n1\n2\n3\n")
    (tmp_path / "t.csv").write_text("a.png,1\nb.png,3\n")
    assert evaluate_classify(out, tmp_path / "t.csv", classes=tmp_path / "c.csv").accuracy == 1


def test_a_label_that_is_no_class_names_the_way_out(tmp_path, out):
    (tmp_path / "t.csv").write_text("a.png,0\nb.png,7\n")
    with pytest.raises(InputError, match=r"0 to 2, or a class's name, found '7'.*--classes FILE"):
        evaluate_classify(out, tmp_path / "t.csv")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_results_that_are_no_csv(tmp_path, suffix):
    rows = [{"image_id": "a.png", "label": 3}, {"image_id": "b.png", "label": 1}]
    path = tmp_path / f"out{suffix}"
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    (tmp_path / "t.csv").write_text("a.png,3\nb.png,0\n")
    assert evaluate_classify(path, tmp_path / "t.csv").accuracy == 0.5


def test_names_that_differ_in_unicode_form_are_paired_and_said(tmp_path, out):
    out.write_text("image_id,label\nb/Ü.jpg,0\n", encoding="utf-8")
    name = unicodedata.normalize("NFD", "b/Ü.jpg")
    (tmp_path / "t.csv").write_text(f"{name},cat\n", encoding="utf-8")
    report = evaluate_classify(out, tmp_path / "t.csv")
    assert report.accuracy == 1
    assert "1 names of the truth differ from the predictions' in Unicode form" in report.notes[0]


def test_a_spreadsheets_unicode_text_is_a_truth(tmp_path, out):
    (tmp_path / "t.csv").write_text("image\tlabel\r\na.png\tcat\r\nb.png\tfish\r\n", "utf-16")
    assert evaluate_classify(out, tmp_path / "t.csv").accuracy == 1


def test_scores_of_three_classes_as_csv(tmp_path, out):
    (tmp_path / "s.csv").write_text("image_id,p0,p1,p2\nb.png,.1,.2,.7\na.png,.5,.3,.2\n")
    (tmp_path / "t.csv").write_text("a.png,cat\nb.png,dog\n")
    report = evaluate_classify(out, tmp_path / "t.csv", scores=tmp_path / "s.csv")
    assert report.top_k == {1: 0.5, 2: 1.0, 3: 1.0}


def test_a_grey_mask_among_colours_is_read_as_they_are(tmp_path):
    save(tmp_path / "p/1.png", COLOURS[[[0, 1, 2]]])
    save(tmp_path / "p/2.png", COLOURS[[[6, 6, 6]]])
    save(tmp_path / "t/1_mask.png", COLOURS[[[0, 1, 2]]])
    save(tmp_path / "t/2_mask.png", [[0, 0, 0]])
    report = evaluate_segment(tmp_path / "p", tmp_path / "t")
    assert report.miou == 1
    assert "masks of the truth were read by colour" in report.notes


@pytest.mark.parametrize("kind", ["grey", "grey palette", "rgb"])
def test_index_masks_are_recognised_by_what_they_hold(tmp_path, kind):
    save(tmp_path / "p/1.png", COLOURS[[[0, 1, 5, 6]]])
    index = np.array([[0, 1, 5, 6]], np.uint8)
    greys = np.arange(256).repeat(3)
    pixels = index[..., None].repeat(3, axis=2) if kind == "rgb" else index
    save(tmp_path / "t/1.png", pixels, greys if kind == "grey palette" else None)
    report = evaluate_segment(tmp_path / "p", tmp_path / "t")
    assert (report.miou, report.notes[-1]) == (1.0, "masks of the truth were read by index")


@pytest.mark.parametrize("side", ["p", "t"])
def test_colours_of_unknown_classes_are_not_taken_for_land_cover(tmp_path, side):
    for folder in ("p", "t"):
        save(tmp_path / folder / "1.png", COLOURS[[[0, 1]]])
    save(tmp_path / side / "1.png", np.array([[[128, 64, 128], [70, 130, 180]]], np.uint8))
    with pytest.raises(InputError, match=r"128,64,128, which aren't .* in --classes FILE"):
        evaluate_segment(tmp_path / "p", tmp_path / "t")


def test_masks_of_both_kinds_in_a_folder_are_refused(tmp_path):
    save(tmp_path / "p/1.png", COLOURS[[[0, 1]]])
    save(tmp_path / "p/2.png", [[1, 2]])
    with pytest.raises(
        InputError, match=r"2\.png holds indices \(1, 2\), where .*1\.png holds col"
    ):
        evaluate_segment(tmp_path / "p", tmp_path / "p")


@pytest.mark.parametrize("values", [[[0, 255, 255]], [[0, 1, 1]]])
def test_buildings_or_not(tmp_path, values):
    save(tmp_path / "p/1.png", [[0, 255, 0]])
    save(tmp_path / "t/1.png", values)
    (tmp_path / "c.csv").write_text(BUILDINGS)
    report = evaluate_segment(tmp_path / "p", tmp_path / "t", classes=tmp_path / "c.csv")
    assert [score.iou for score in report.per_class] == [0.5, 0.5]


def test_wilson_and_the_bootstrap_of_known_shares():
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 0) is None
    counts = np.array([[right, 1.0] for right in [1] * 80 + [0] * 20])
    (found,) = bootstrap(counts, lambda sums: sums[:, :1] / sums[:, 1:])
    assert found == pytest.approx((0.72, 0.88), abs=0.02)
    assert bootstrap(counts, lambda sums: sums[:, :1] / sums[:, 1:]) == [found]


def test_rows_of_images_and_classes_as_csv(tmp_path, out):
    (tmp_path / "t.csv").write_text("a.png,cat\nb.png,dog\n")
    words = ["--per-image", tmp_path / "i.csv", "--per-class", tmp_path / "c.csv"]
    result = CliRunner().invoke(
        evaluate, list(map(str, ["classify", out, tmp_path / "t.csv", *words]))
    )
    assert result.exit_code == 0, result.output
    images = list(csv.DictReader((tmp_path / "i.csv").read_text().splitlines()))
    assert [(row["true_name"], row["name"], row["correct"]) for row in images] == [
        ("cat", "cat", "1"),
        ("dog", "fish", "0"),
    ]
    classes = list(csv.DictReader((tmp_path / "c.csv").read_text().splitlines()))
    assert [row["name"] for row in classes] == ["cat", "dog", "fish"]
    assert 0 < float(classes[0]["recall_low"]) < 1


@pytest.mark.parametrize("option", ["--per-image", "--per-class"])
def test_rows_that_are_no_csv_are_refused(option, tmp_path, out):
    (tmp_path / "t.csv").write_text("a.png,cat\nb.png,dog\n")
    words = ["classify", out, tmp_path / "t.csv", option, tmp_path / "rows.parquet"]
    result = CliRunner().invoke(evaluate, list(map(str, words)))
    assert result.exit_code == 2
    assert "rows.parquet: expected a name that ends in .csv" in result.output
    assert not (tmp_path / "rows.parquet").exists()
