import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hw1.core.errors import InputError
from hw1.evaluation import truth


def write(path, text):
    path.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "filename,label\na.png,3\nb.png,0\n",
        "a.png,3\nb.png,0\n",
        "image_id,label,why\r\na.png,3,x\r\nb.png,0,y\r\n",
        '\ufeffa.png, 3\n\n"b.png",0',
        '\ufeff"a.png","3"\n"b.png","0"\n',
    ],
)
def test_a_csv_of_labels_with_or_without_a_header(tmp_path, text):
    assert truth.read_labels(write(tmp_path / "t.csv", text)) == {"a.png": 3, "b.png": 0}


def test_a_file_that_is_no_csv(tmp_path):
    path = write(tmp_path / "t.csv", f'"{"x" * 200_000}",1\n')
    with pytest.raises(InputError, match=r"t\.csv: can't be read as a CSV file: field larger"):
        truth.read_labels(path)


def test_a_large_table_is_not_held_in_memory(tmp_path):
    path = write(tmp_path / "t.csv", "".join(f"{i:060}.png,1\n" for i in range(20_000)))
    tracemalloc.start()
    try:
        rows = sum(1 for _ in truth.read_table(path))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == 20_000
    assert most < path.stat().st_size / 4


def test_names_that_are_not_utf8_survive(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b'"a\rb,\xff.png",7\n')
    assert truth.read_labels(path) == {"a\rb,\udcff.png": 7}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no labels in it"),
        ("image,label\n", "no labels in it"),
        ("a.png\n", "row 1: expected an image and its label, found 'a.png' alone"),
        (
            "a.png,1\nb.png,50\n",
            "row 2: a label is an integer 0 to 49, or a class's name, found '50'",
        ),
        (
            "a.png,1\nb.png,cat\n",
            "row 2: a label is an integer 0 to 49, or a class's name, found 'cat'",
        ),
        ("a.png,1\nb.png,1\na.png,2\n", "row 3: a.png has a label already"),
    ],
)
def test_a_csv_that_is_no_truth(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        truth.read_labels(write(tmp_path / "t.csv", text))


def test_no_such_truth(tmp_path):
    with pytest.raises(InputError, match=r"t\.csv: can't be read as a CSV file: No such file"):
        truth.read_labels(tmp_path / "t.csv")


def test_a_folder_whose_names_begin_with_the_class(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("12_1.png", "sub/0_a.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    assert truth.read_labels(tmp_path) == {"12_1.png": 12, "sub/0_a.png": 0}


def test_names_without_a_class_are_reported():
    names = ["1_a.png", "cat.png", "50_1.png", "3.png"]
    with pytest.raises(InputError, match=r"3 don't: cat\.png, 50_1\.png, 3\.png"):
        truth.labels_in_names(names)


def test_names_of_classes(tmp_path):
    path = write(tmp_path / "n.csv", "id,name\n0,bicycle\n12,sky\n")
    assert truth.read_class_names(path) == {0: "bicycle", 12: "sky"}
    write(path, "\ufeff0,bicycle\n12,sky\n")
    assert truth.read_class_names(path) == {0: "bicycle", 12: "sky"}
    with pytest.raises(InputError, match="row 2: a label is an integer"):
        truth.read_class_names(write(path, "id,name\nbike,0\n"))


def test_pairs_are_sorted_names():
    pairs = truth.pair({"b": 1, "a": 2}, {"a": 0, "b": 0}, {}, allow_rejected=False)
    assert pairs == truth.Pairs(["a", "b"], 0)


def test_missing_extra_and_rejected_names_are_reported():
    predicted = {"a": 1, "x": 1, "new\nline": 1}
    true = {"a": 1, "m": 1, "r": 1}
    with pytest.raises(InputError) as error:
        truth.pair(predicted, true, {"r": "truncated"}, allow_rejected=False)
    assert str(error.value) == (
        "predictions and truth don't pair: 1 of 3 have no prediction: m; "
        "2 of 3 predictions have no truth: x, 'new\\nline'; "
        "the job rejected 1: r (truncated); --allow-rejected evaluates without them"
    )


def test_rejected_images_may_be_left_out():
    rejected = {"r": "empty", "elsewhere": "gone"}
    pairs = truth.pair({"a": 1}, {"a": 1, "r": 1}, rejected, allow_rejected=True)
    assert pairs == truth.Pairs(["a"], 1)


def test_nothing_left_to_evaluate():
    with pytest.raises(InputError, match="nothing to evaluate"):
        truth.pair({}, {"r": 1}, {"r": "empty"}, allow_rejected=True)


def test_many_names_are_abridged():
    assert truth.some([f"{index}" for index in range(7)]) == "0, 1, 2, 3, 4 and 2 more"


@pytest.mark.parametrize(
    ("image_id", "key"),
    [
        ("0010.png", "0010"),
        ("0010_sat.jpg", "0010"),
        ("0010_mask.png", "0010"),
        ("a/b/0010_sat.png", "a/b/0010"),
        ("0010_sat.jpg.png", "0010"),
        ("0010.PNG", "0010"),
        ("v1.2.png", "v1.2"),
        ("v1.2", "v1.2"),
        ("_mask.png", "_mask"),
        ("satellite_saturn.png", "satellite_saturn"),
    ],
)
def test_the_name_that_pairs(image_id, key):
    assert truth.mask_key(image_id) == key


@settings(deadline=None)
@given(st.from_regex(r"[a-z0-9 ,.'é]{1,9}[a-z0-9]", fullmatch=True))
def test_any_name_pairs_with_its_mask(name):
    assert truth.mask_key(f"x/{name}_sat.jpg") == truth.mask_key(f"x/{name}_mask.png")


def test_masks_are_png_files_that_are_not_hidden(tmp_path):
    names = ["0010_mask.png", "0010_sat.jpg", "0010_sat.png", "sub/1.PNG", ".job/2.png", ".3.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = truth.find_masks(tmp_path)
    assert found == {"0010": tmp_path / "0010_mask.png", "sub/1": tmp_path / "sub/1.PNG"}


def test_masks_in_a_linked_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").touch()
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "sub").symlink_to("../elsewhere")
    for name in ("circle", "another"):
        (masks / name).symlink_to(".")
    (tmp_path / "elsewhere" / "back").symlink_to(masks)  # a circle of two links
    (masks / "beside").mkdir()
    (masks / "beside" / "link").symlink_to("../sub")
    found = {"sub/1": masks / "sub/1.png", "beside/link/1": masks / "beside/link/1.png"}
    assert truth.find_masks(masks) == found


def test_two_masks_of_one_name(tmp_path):
    for name in ("1.png", "1_mask.png"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"1\.png and 1_mask\.png are both masks of 1"):
        truth.find_masks(tmp_path)


def test_what_a_network_made_of_a_mask_is_no_prediction(tmp_path):
    for name in ("1_sat.png", "1_mask.png"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"are both masks of 1; score images alone: --include"):
        truth.find_masks(tmp_path, predicted=True)


def test_no_masks(tmp_path):
    with pytest.raises(InputError, match="no PNG masks in it"):
        truth.find_masks(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        truth.find_masks(tmp_path / "x")
