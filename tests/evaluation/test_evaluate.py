import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.metrics import f1_score

from hw1.commands.evaluate import evaluate
from hw1.core.errors import InputError
from hw1.evaluation.evaluate import evaluate_classify, evaluate_segment
from hw1.pipeline.masks import COLOURS, colours_of

OUT = "image_id,label\na.png,0\nb.png,1\nc.png,1\nd.png,3\n"
TRUTH = "name,class\nd.png,2\nc.png,1\nb.png,0\na.png,0\n"


@pytest.fixture
def out(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text(OUT)
    return path


@pytest.fixture
def truth(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text(TRUTH)
    return path


@pytest.fixture
def masks(tmp_path):
    return folder(tmp_path / "masks", {"1.png": [[0, 0], [1, 1]], "sub/2_sat.png": [[2, 2, 2]]})


@pytest.fixture
def true_masks(tmp_path):
    content = {"1_mask.png": [[0, 0], [0, 1]], "sub/2_mask.png": [[2, 6, 2]]}
    path = folder(tmp_path / "true", content)
    Image.new("RGB", (2, 2)).save(path / "1_sat.jpg")
    return path


def folder(path, masks):
    for name, rows in masks.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colours_of(np.array(rows, np.uint8))).save(path / name)
    return path


def reject(job, *image_ids):
    job.mkdir()
    rows = "".join(f"{image_id},truncated,it ends early\n" for image_id in image_ids)
    (job / "rejected.csv").write_text(f"image_id,reason,detail\n{rows}")


def write_scores(path, ids, scores):
    columns = {f"p{index}": scores[:, index] for index in range(50)}
    pq.write_table(pa.table({"image_id": ids, **columns}), path)
    return path


def run(*words):
    return CliRunner().invoke(evaluate, [str(word) for word in words])


def not_blank(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("L")).std() > 5


def test_labels_are_paired_by_name(out, truth):
    report = evaluate_classify(out, truth)
    assert (report.images, report.correct, report.accuracy) == (4, 2, 0.5)
    assert report.top_k == {1: 0.5}
    assert report.calibration is None
    assert report.balanced_accuracy == pytest.approx((0.5 + 1 + 0) / 3)
    assert report.confusion[2, 3] == 1
    assert report.confusion.sum() == 4
    assert report.most_confused() == [(0, 1, 1), (2, 3, 1)]


def test_macro_f1_counts_a_class_that_is_predicted_and_never_true(out, truth):
    # Labels 0, 1, 1, 3 for 0, 0, 1, 2, in the images' order.
    expected = f1_score([0, 0, 1, 2], [0, 1, 1, 3], average="macro")
    assert evaluate_classify(out, truth).macro_f1 == pytest.approx(expected)


def test_a_folder_of_named_images_is_a_truth(tmp_path):
    for name in ("0_1.png", "7_2.png"):
        (tmp_path / "val").mkdir(exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / "val" / name)
    (tmp_path / "out.csv").write_text("image_id,label\n0_1.png,0\n7_2.png,8\n")
    assert evaluate_classify(tmp_path / "out.csv", tmp_path / "val").accuracy == 0.5


def test_more_columns_give_top_k_and_calibration(out, truth):
    out.write_text(
        "image_id,label,label_2,label_3,confidence,agreement\n"
        "a.png,0,1,2,0.9,1\nb.png,1,0,2,0.6,1\nc.png,1,0,2,0.7,1\nd.png,3,4,2,0.3,1\n"
    )
    report = evaluate_classify(out, truth)
    assert report.top_k == {1: 0.5, 2: 0.75, 3: 1.0}
    # Each image is alone in its bin.
    assert report.calibration.ece == pytest.approx((0.1 + 0.6 + 0.3 + 0.3) / 4)


def test_scores_give_top_k_and_calibration(tmp_path, out, truth):
    scores = np.full((4, 50), 0.4 / 49, np.float32)
    scores[np.arange(4), [3, 1, 1, 0]] = 0.6  # in another order than the CSV
    path = write_scores(tmp_path / "s.parquet", ["d.png", "c.png", "b.png", "a.png"], scores)
    report = evaluate_classify(out, truth, scores=path)
    assert report.calibration.ece == pytest.approx(0.1, abs=1e-6)
    assert sorted(report.top_k) == [1, 2, 3, 5, 10]


def test_top_k_of_equal_scores_is_no_less_than_accuracy(tmp_path, out, truth):
    scores = np.zeros((4, 50), np.float32)
    scores[:, [0, 1, 2, 3]] = 0.25
    out.write_text("image_id,label\na.png,0\nb.png,0\nc.png,0\nd.png,0\n")
    path = write_scores(tmp_path / "s.parquet", ["a.png", "b.png", "c.png", "d.png"], scores)
    report = evaluate_classify(out, truth, scores=path)
    assert report.top_k == {1: 0.5, 2: 0.75, 3: 1.0, 5: 1.0, 10: 1.0}


def test_scores_of_another_run_are_refused(tmp_path, out, truth):
    scores = np.eye(4, 50, dtype=np.float32)
    ids = ["a.png", "b.png", "c.png", "d.png"]
    path = write_scores(tmp_path / "s.parquet", ids, scores)
    with pytest.raises(InputError, match=r"give 1 images another label .*: c\.png"):
        evaluate_classify(out, truth, scores=path)
    path = write_scores(path, ["a.png", "b.png", "c.png", "x.png"], scores)
    with pytest.raises(InputError, match=r"missing d\.png; extra x\.png"):
        evaluate_classify(out, truth, scores=path)


def test_a_file_that_holds_no_scores(tmp_path, out, truth):
    (tmp_path / "s.parquet").write_text("no Parquet")
    with pytest.raises(InputError, match="can't be read as a Parquet file"):
        evaluate_classify(out, truth, scores=tmp_path / "s.parquet")
    pq.write_table(pa.table({"image_id": ["a.png"], "p0": [1.0]}), tmp_path / "s.parquet")
    with pytest.raises(InputError, match="expected columns image_id, p0 … p49; lacks p1, p10"):
        evaluate_classify(out, truth, scores=tmp_path / "s.parquet")


@pytest.mark.parametrize("score", [np.nan, -0.1, 7.5])
def test_scores_that_are_no_probabilities(tmp_path, out, truth, score):
    scores = np.eye(50, dtype=np.float32)[[0, 1, 1, 3]]
    scores[2, 7] = score
    path = write_scores(tmp_path / "s.parquet", ["a.png", "b.png", "c.png", "d.png"], scores)
    with pytest.raises(InputError, match=r"0 to 1; 1 images have others: c\.png"):
        evaluate_classify(out, truth, scores=path)


def test_scores_in_columns_of_other_types(tmp_path, out, truth):
    scores = np.eye(50)[[0, 1, 1, 3]]
    names = np.array(["a.png", "b.png", "c.png", "d.png"], object)
    for ids in (names.astype("S"), pa.array(names).dictionary_encode()):
        path = write_scores(tmp_path / "s.parquet", ids, scores)
        assert evaluate_classify(out, truth, scores=path).accuracy == 0.5
    for ids in ([1, 2, 3, 4], [None, "b.png", "c.png", "d.png"]):
        path = write_scores(tmp_path / "s.parquet", ids, scores)
        with pytest.raises(InputError, match=r"missing a\.png"):
            evaluate_classify(out, truth, scores=path)
    path = write_scores(tmp_path / "s.parquet", names, scores.astype(str).astype(object) + "x")
    with pytest.raises(InputError, match="can't be read as a Parquet file of scores"):
        evaluate_classify(out, truth, scores=path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png,0\n", "expected a header that begins with image_id,label"),
        ("", "expected a header that begins with image_id,label"),
        ("image_id,label\na.png\n", "row 2: expected 2 fields, found 1"),
        ("image_id,label\na.png,0\na.png,0\n", r"row 3: a\.png has a label already"),
        (
            "image_id,label\na.png,-1\n",
            "row 2: a label is an integer 0 to 49, or a class's name, found '-1'",
        ),
        ("image_id,label\na.png," + "9" * 5000, "row 2: a label is .*found '9{40}'"),
        ("image_id,label,confidence\na.png,1,nan\n", "row 2: a confidence is a number 0 to 1"),
    ],
)
def test_a_csv_that_holds_no_predictions(out, truth, text, message):
    out.write_text(text)
    with pytest.raises(InputError, match=message):
        evaluate_classify(out, truth)


def test_a_rejected_image_is_reported_and_may_be_left_out(out, truth):
    out.write_text(OUT.replace("c.png,1\n", ""))
    with pytest.raises(InputError, match=r"1 of 4 have no prediction: c\.png"):
        evaluate_classify(out, truth, allow_rejected=True)
    reject(out.with_name("out.csv.job"), "c.png")
    with pytest.raises(InputError, match=r"the job rejected 1: c\.png \(truncated\)"):
        evaluate_classify(out, truth)
    report = evaluate_classify(out, truth, allow_rejected=True)
    assert (report.images, report.rejected, report.correct) == (3, 1, 1)


def test_miou_of_a_hand_computed_case(masks, true_masks):
    report = evaluate_segment(masks, true_masks)
    assert [score.iou for score in report.per_class] == [2 / 3, 1 / 2, 2 / 3, None, None, None]
    assert report.miou == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 3)
    assert report.pixel_accuracy == 5 / 6
    assert report.images == 2


def test_masks_are_perfect_against_themselves(true_masks):
    report = evaluate_segment(true_masks, true_masks)
    assert (report.miou, report.pixel_accuracy) == (1.0, 1.0)


def test_foreign_colours_are_reported_and_left_out(masks, true_masks):
    rgb = COLOURS[np.array([[0, 0], [0, 1]])]
    rgb[1, 0] = (255, 0, 0)  # the only pixel that was wrong
    Image.fromarray(rgb).save(true_masks / "1_mask.png")
    report = evaluate_segment(masks, true_masks)
    assert (report.foreign_true, report.foreign_predicted) == ({"1": 1}, {})
    assert report.per_class[0].iou == 1.0
    assert report.confusion.sum() == 6


def test_sizes_that_differ(masks, true_masks):
    folder(masks, {"1.png": [[0, 0, 0]]})
    with pytest.raises(
        InputError, match=r"1\.png has 3 × 1 pixels, its truth 1_mask\.png has 2 × 2"
    ):
        evaluate_segment(masks, true_masks)


def test_masks_that_do_not_pair(masks, true_masks):
    (masks / "1.png").rename(masks / "3.png")
    with pytest.raises(InputError, match=r"1 of 2 have no prediction: 1; 1 of 2 predictions .*: 3"):
        evaluate_segment(masks, true_masks)


def test_a_rejected_tile_may_be_left_out(masks, true_masks):
    (masks / "1.png").unlink()
    reject(masks / ".job", "1_sat.jpg")
    with pytest.raises(InputError, match=r"the job rejected 1: 1 \(truncated\)"):
        evaluate_segment(masks, true_masks)
    report = evaluate_segment(masks, true_masks, allow_rejected=True)
    assert (report.images, report.rejected) == (1, 1)


def test_classify_prints_tables(tmp_path, out, truth):
    (tmp_path / "names.csv").write_text("id,name\n0,bicycle [red]\n")
    result = run("classify", out, truth, "--names", tmp_path / "names.csv")
    assert result.exit_code == 0, result.output
    for text in ("0.5000 (2 right)", "bicycle [red]", "Most confused", "macro F1"):
        assert text in result.stdout
    assert "error" not in result.stdout  # no calibration without confidence


def test_what_a_cascade_would_cost(tmp_path, out, truth):
    first = tmp_path / "first.csv"
    names = [line.split(",")[0] for line in out.read_text().splitlines()[1:]]
    right = [line.split(",")[:2] for line in truth.read_text().splitlines()[1:]]
    labels = dict(right)
    rows = zip(names, (0.97, 0.85, 0.75, 0.4), strict=True)
    first.write_text(
        "image_id,label,confidence\n" + "".join(f"{n},{labels[n]},{c}\n" for n, c in rows)
    )
    result = run("classify", out, truth, "--cascade", first, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    early = {each["least"]: each["early"] for each in report["cascade"]}
    assert (early[0.5], early[0.8], early[0.95], early[0.99]) == (0.75, 0.5, 0.25, 0)
    accuracy = {each["least"]: each["accuracy"] for each in report["cascade"]}
    assert accuracy[0.99] == report["accuracy"] == 0.5
    assert accuracy[0.5] > 0.5  # the first is always right here
    shown = run("classify", out, truth, "--cascade", first).stdout
    assert "decided alone" in shown
    assert "75.0 %" in shown
    first.write_text("image_id,label\n")
    assert "no confidences" in str(run("classify", out, truth, "--cascade", first).exception)


def test_classify_prints_json_and_writes_figures(tmp_path, out, truth):
    out.write_text(
        "image_id,label,confidence\na.png,0,0.9\nb.png,1,0.2\nc.png,1,0.5\nd.png,3,0.4\n"
    )
    result = run("classify", out, truth, "--json", "--figures", tmp_path / "a/b")
    report = json.loads(result.stdout)
    assert list(report) == [
        "task", "images", "rejected", "correct", "accuracy", "accuracy_interval",
        "balanced_accuracy", "macro_f1", "top_k", "classes", "per_class", "confusion",
        "calibration", "notes", "most_confused", "figures",
    ]  # fmt: skip
    assert report["accuracy"] == 0.5
    assert report["top_k"] == {"1": 0.5}
    assert report["per_class"][4] == {
        "label": 4, "name": "lamp", "precision": None, "recall": None, "f1": None, "support": 0,
        "predicted": 0, "precision_interval": None, "recall_interval": None,
    }  # fmt: skip
    assert report["most_confused"][0] == {"true": 0, "label": 1, "images": 1}
    names = ["confusion.png", "reliability.png"]
    assert report["figures"] == [str(tmp_path / "a/b" / name) for name in names]
    assert all(not_blank(path) for path in report["figures"])


def test_segment_prints_tables(masks, true_masks):
    Image.fromarray(np.full((2, 2, 3), (255, 0, 0), np.uint8)).save(true_masks / "1_mask.png")
    result = run("segment", masks, true_masks)
    assert result.exit_code == 0, result.output
    assert "2 rangeland" in result.stdout
    assert "4 pixels of the truth" in result.stdout


def test_segment_prints_json_and_writes_figures(tmp_path, masks, true_masks):
    result = run("segment", masks, true_masks, "--json", "--figures", tmp_path / "f")
    report = json.loads(result.stdout)
    assert list(report) == [
        "task", "images", "rejected", "miou", "miou_interval", "pixel_accuracy", "classes",
        "per_class", "confusion", "foreign_predicted", "foreign_true", "notes", "figures",
    ]  # fmt: skip
    assert report["per_class"][3]["iou"] is None
    assert [path.rsplit("/")[-1] for path in report["figures"]] == ["confusion.png", "iou.png"]
    assert all(not_blank(path) for path in report["figures"])


def test_a_users_mistake_is_an_input_error(tmp_path, out):
    result = run("classify", out, tmp_path / "nowhere.csv")
    assert isinstance(result.exception, InputError)


def test_without_matplotlib_figures_are_refused_before_anything_is_read(
    tmp_path, monkeypatch, masks
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for words in (("classify", "no.csv", "no.csv"), ("segment", masks, "nowhere")):
        result = run(*words, "--figures", tmp_path / "f")
        assert isinstance(result.exception, InputError)
        assert 'pip install "hw1[figures]"' in str(result.exception)
        assert not (tmp_path / "f").exists()


def test_figures_that_cannot_be_written(out, truth):
    result = run("classify", out, truth, "--figures", out)
    assert isinstance(result.exception, InputError)
