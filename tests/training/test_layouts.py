"""Data as people have it: which classes, which images and masks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hw1.core.classes import Classes
from hw1.core.errors import InputError
from hw1.training.labelled import find_labelled
from hw1.training.masks import FOREGROUND, find_classes, find_tiles
from hw1.training.source import find_source


def picture(path: Path, values: object = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(
        np.zeros((2, 2, *np.shape(values)[2:]), np.uint8) + np.array(values, np.uint8)
    ).save(path)
    return path


def test_folders_named_as_classes(tmp_path: Path) -> None:
    for name in ("dog/a.png", "cat/b.png", "cat/c.png", "trains/d.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    assert find_source(tmp_path, None).train == tmp_path
    found = find_labelled(tmp_path)
    assert found.classes.names == ("cat", "dog", "trains")
    assert found.names == ("cat/b.png", "cat/c.png", "dog/a.png", "trains/d.png")
    assert found.labels == (0, 0, 1, 2)
    assert "3 classes, named by their folders: cat 2, dog 1" in found.summary(tmp_path)
    assert "passed over: notes.txt" in found.summary(tmp_path)


def test_a_validation_folder_of_another_class_is_refused(tmp_path: Path) -> None:
    for name in ("t/dog/a.png", "t/cat/b.png", "v/cow/c.png"):
        picture(tmp_path / name)
    classes = find_labelled(tmp_path / "t").classes
    assert find_labelled(tmp_path / "t", Classes(("cow", "cat", "dog"))).labels == (1, 2)
    with pytest.raises(InputError, match=r"1 folders are named as no class .*: cow"):
        find_labelled(tmp_path / "v", classes)


@pytest.mark.parametrize("labels", [("cat", "dog"), ("0", "1")])
def test_a_table_of_images_and_labels(tmp_path: Path, labels: tuple[str, str]) -> None:
    rows = "".join(f"{picture(tmp_path / f'i/{each}.png')},{each}\n" for each in labels)
    (tmp_path / "t.csv").write_text(f"image,label\n{rows}")
    found = find_labelled(tmp_path / "t.csv")
    assert (found.classes.names, found.labels) == (labels, (0, 1))


def test_images_and_masks_in_folders(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    with pytest.raises(InputError, match="no tiles"):
        find_tiles(tmp_path)
    mask = picture(tmp_path / "masks/a_mask.png", [[0, 255], [0, 255]])
    assert find_tiles(tmp_path) == ([tmp_path / "images/a.png"], [mask])
    assert find_classes(None, tmp_path, [mask])[0] == FOREGROUND
    picture(mask, [[0, 2], [1, 255]])
    assert find_classes(None, tmp_path, [mask])[0].names == ("0", "1", "2")
    picture(mask, [[0, 200], [200, 255]])
    with pytest.raises(InputError, match=r"hold 2 values, 0, 200, .*--classes FILE lists"):
        find_classes(None, tmp_path, [mask])
    picture(mask, [[[128, 64, 128], [70, 70, 70]]] * 2)
    with pytest.raises(InputError, match=r"colours such as 128,64,128, .*classes\.csv"):
        find_classes(None, tmp_path, [mask])
    picture(tmp_path / "masks/a_mask.jpg")
    mask.unlink()
    with pytest.raises(InputError, match=r"1 tiles have no mask: .* a_mask\.jpg is none"):
        find_tiles(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gone.jpg,cat\nx.jpg,cat\ny.jpg,dog\n", "1 images are not there, in .*: gone.jpg"),
        ("x.jpg,cat\ny.jpg,dog\nx.jpg,dog\n", "row 3: x.jpg is dog, and in row 1 cat"),
        ("image,label\nx.jpg,\ny.jpg,dog\n", "row 2: expected the label of x.jpg, found nothing"),
    ],
)
def test_a_table_with_a_slip_is_refused(text: str, message: str, tmp_path: Path) -> None:
    for name in "xy":
        (tmp_path / f"{name}.jpg").touch()
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        find_labelled(tmp_path / "labels.csv")


@pytest.mark.parametrize("text", ["image;label\nx.jpg;cat\ny.jpg;dog\n", "x.jpg\tcat\ny.jpg\tdog"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_table_from_a_spreadsheet(text: str, encoding: str, tmp_path: Path) -> None:
    for name in "xy":
        (tmp_path / f"{name}.jpg").touch()
    (tmp_path / "labels.csv").write_text(text, encoding)
    found = find_labelled(tmp_path / "labels.csv")
    assert (found.names, found.labels) == (("x.jpg", "y.jpg"), (0, 1))
    assert found.classes.names == ("cat", "dog")
