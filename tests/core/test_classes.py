"""The classes of a checkpoint: what is refused, JSON and files, colours."""

import csv
import io
from pathlib import Path

import pytest

from hw1.core.classes import (
    REFERENCE_CLASSIFIER,
    REFERENCE_SEGMENTER,
    Classes,
    classes_from_json,
    colour_map,
    read_classes,
)
from hw1.core.errors import InputError

EXAMPLE = Path(__file__).parents[2] / "examples" / "classes.csv"


def test_the_references_classes_are_those_of_the_example() -> None:
    assert read_classes(EXAMPLE) == REFERENCE_CLASSIFIER
    assert (len(REFERENCE_CLASSIFIER), len(REFERENCE_SEGMENTER)) == (50, 7)
    assert REFERENCE_SEGMENTER.unlabelled == 6


@pytest.mark.parametrize(
    ("names", "colours", "unlabelled", "message"),
    [
        (("one",), None, None, "expected 2 to"),
        (("cat", "cat"), None, None, "'cat' is there twice"),
        (("cat", " "), None, None, "printable characters, found ' '"),
        (("cat", "d\nog"), None, None, "printable"),
        (("cat", "dog"), ((0, 0, 0),), None, "2 names but 1 colours"),
        (("cat", "dog"), ((0, 0, 0), (0, 0, 0)), None, "the colour of dog is another class's"),
        (("cat", "dog"), ((0, 0, 0), (0, 0, 256)), None, "the colour of dog is"),
        (("cat", "dog"), None, 2, "unlabelled is 2, expected an index from 0 to 1"),
    ],
)
def test_what_is_refused(
    names: tuple[str, ...],
    colours: tuple[tuple[int, int, int], ...] | None,
    unlabelled: int | None,
    message: str,
) -> None:
    with pytest.raises(InputError, match=message):
        Classes(names, colours, unlabelled)


@pytest.mark.parametrize(
    "classes",
    [
        Classes(("é", "b")),
        Classes(tuple(f"class {index}" for index in range(1000))),
        REFERENCE_SEGMENTER,
    ],
)
def test_json_gives_the_same_classes_back(classes: Classes) -> None:
    assert classes_from_json(classes.to_json(), "segment") == classes


def test_metadata_without_names() -> None:
    assert classes_from_json(None, "classify") == REFERENCE_CLASSIFIER
    assert classes_from_json("50", "classify") == REFERENCE_CLASSIFIER
    assert classes_from_json("7", "segment") == REFERENCE_SEGMENTER
    assert classes_from_json("3", "classify").names == ("0", "1", "2")
    for text in ("[", "{}", '{"names": [1, 2]}', '{"names": ["a", "b"], "colours": [1]}', "1e9"):
        with pytest.raises(InputError):
            classes_from_json(text, "classify")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "cat\n\ndog\n", Classes(("cat", "dog"))),
        (
            "a.csv",
            "name,r,g,b\ncat,1,2,3\ndog,4,5,6\n",
            Classes(("cat", "dog"), ((1, 2, 3), (4, 5, 6))),
        ),
        ("a.csv", "index,name\n0,cat\n1,dog\n", Classes(("cat", "dog"))),
        (
            "a.csv",
            "Name;Red;Green;Blue\ncat;1;2;3\ndog;4;5;6\n",
            Classes(("cat", "dog"), ((1, 2, 3), (4, 5, 6))),
        ),
        ("a.csv", "name,unlabelled\ncat,0\nunknown,0\n", Classes(("cat", "unknown"))),
        ("a.csv", "name\ncat\nunknown\n", Classes(("cat", "unknown"))),
        (
            "class_dict.csv",
            "name,r,g,b\nforest_land,0,255,0\nunknown,0,0,0\n",
            Classes(("forest_land", "unknown"), ((0, 255, 0), (0, 0, 0)), 1),
        ),
        (
            "a.toml",
            'names = ["no", "yes"]\ncolours = [[0, 0, 0], [255, 255, 255]]\nunlabelled = 0\n',
            Classes(("no", "yes"), ((0, 0, 0), (255, 255, 255)), 0),
        ),
    ],
)
def test_files_of_classes(name: str, text: str, expected: Classes, tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / name).write_text(text, encoding)
        assert read_classes(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "klass\ncat\n", "expected columns name"),
        ("a.csv", "id,name\n1,cat\n0,dog\n", "expected id to be 0, 1, 2"),
        ("a.csv", "name,r,g,b\ncat,1,2\ndog,1,2,x\n", "a line lacks its name"),
        ("a.csv", "name,unlabelled\ncat,1\ndog,1\n", "expected unlabelled to be 1 for one class"),
        ("a.csv", "name,r,g\ncat,1,2\ndog,1,3\n", "expected columns name or name,r,g,b"),
        ("a.toml", 'names = ["a", "b"]\ncolors = []\n', "expected names, colours, .* 'colors'"),
        ("a.toml", "names = [2020-01-01]\n", "names to be a list of text, .* found .datetime"),
        ("a.toml", 'names = "ab"\n', "names to be a list of text, .* found 'ab'"),
        ("a.toml", "unlabelled = 0\n", "names to be a list of text, .* found none"),
        ("a.toml", 'names = ["a", "b"]\ncolours = 2020-01-01\n', "expected colours to be"),
        ("a.toml", 'names = ["a", "b"]\ncolours = [[1], [2]]\n', "expected colours to be"),
        ("a.toml", 'names = ["a", "b"]\nunlabelled = 2020-01-01\n', "expected an index"),
        ("a.toml", "names = [", "expected a text file of class names"),
        ("b.txt", None, "No such file"),
    ],
)
def test_bad_files_are_named(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_classes(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_names_are_found_in_each_unicode_form() -> None:
    one, other = "Füchse", "Fu\u0308chse"  # the same to a reader
    assert [Classes(("a", n)).index_of(m) for n in (one, other) for m in (one, other)] == [1] * 4
    both = Classes((one, other))
    assert (both.index_of(one), both.index_of(other), both.index_of("fuchse")) == (0, 1, None)


def test_in_what_classes_differ() -> None:
    some = Classes(("cat", "dog"))
    assert some.difference(Classes(("cat", "dog"))) is None
    assert some.difference(Classes(("cat", "fox"))) == "class 1 is 'dog', and 'fox'"
    assert some.difference(Classes(("a", "b", "c"))) == "2 classes, and 3"
    assert some.difference(Classes(("cat", "dog"), unlabelled=1)) is not None
    assert "colours" in str(some.difference(Classes(("cat", "dog"), ((0, 0, 0), (1, 1, 1)))))


def test_colours_are_their_own_or_vocs() -> None:
    assert REFERENCE_SEGMENTER.coloured() is REFERENCE_SEGMENTER
    assert Classes(("a", "b", "c")).coloured().colours == ((0, 0, 0), (128, 0, 0), (0, 128, 0))
    assert len(set(colour_map(256))) == 256


def test_the_table_can_be_read_back(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text(REFERENCE_SEGMENTER.to_csv())
    assert read_classes(tmp_path / "c.csv") == REFERENCE_SEGMENTER
    rows = list(csv.reader(io.StringIO(Classes(("a,b", "c")).to_csv())))
    assert rows == [["index", "name"], ["0", "a,b"], ["1", "c"]]
