import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from hw1.commands.plot import plot
from hw1.core.classes import REFERENCE_SEGMENTER
from hw1.core.errors import InputError
from hw1.core.preprocessing import Preprocessing
from hw1.models.checkpoints import Checkpoint
from hw1.pipeline.masks import COLOURS, colours_of
from hw1.plotting.curves import plot_curves, read_run
from hw1.plotting.layers import LayerOutputs, find_layer
from hw1.plotting.plot import title_of
from hw1.plotting.tsne import embed


@pytest.fixture(scope="module")
def segmenter(weights):
    return weights / "fcn8s.safetensors"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for index in range(24):
        label = (0, 1, 27)[index % 3]
        pixels = rng.integers(0, 80, (32, 32, 3)) + 80 * (index % 3)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{label}_{index}.png")
    return folder


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    rng = np.random.default_rng(0)
    for name in ("0010", "0097"):
        photo = rng.integers(0, 256, (40, 50, 3), np.uint8)
        mask = colours_of(rng.integers(0, 7, (40, 50), np.uint8))
        mask[0, 0] = (255, 0, 0)
        Image.fromarray(photo).save(folder / f"{name}_sat.jpg")
        Image.fromarray(mask).save(folder / f"{name}_mask.png")
    return folder


def run(*words):
    return CliRunner().invoke(plot, [str(word) for word in words])


def failure(*words):
    """What the command tells the user of a mistake."""
    error = run(*words).exception
    assert isinstance(error, InputError)
    return str(error)


def colours_in(path):
    with Image.open(path) as image:
        return np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)


def test_tsne_draws_classes_the_same_for_a_seed(tmp_path, images, weights):
    names = tmp_path / "names.csv"
    names.write_text("id,name\n0,bicycle $\\frac$\n")
    files = [tmp_path / "1.png", tmp_path / "2.png"]
    for file in files:
        result = run("tsne", images, file, "--weights", weights, "--seed", 1, "--names", names)
        assert result.exit_code == 0, result.output
        assert result.stdout == f"{file}: 24 images\n"
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(colours_in(files[0])) > 50


def test_tsne_leaves_out_what_cannot_be_decoded(tmp_path, images, weights):
    folder = tmp_path / "some"
    folder.mkdir()
    for path in sorted(images.iterdir())[:6]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "1_bad.png").write_bytes(b"")
    result = run("tsne", folder, tmp_path / "o.png", "--weights", weights, "--layer", "backbone.4")
    assert result.exit_code == 0, result.output
    assert "6 images" in result.stdout
    assert "left out: 1_bad.png (empty: 0 bytes)" in result.stderr


def test_tsne_takes_labels_from_a_csv(tmp_path, images, weights):
    truth = tmp_path / "t.csv"
    ids = sorted(path.name for path in images.iterdir())
    truth.write_text("".join(f"{image_id},{index}\n" for index, image_id in enumerate(ids)))
    words = ("--weights", weights, "--truth", truth)
    assert run("tsne", images, tmp_path / "o.png", *words).exit_code == 0
    truth.write_text(f"{ids[0]},1\n")
    assert "23 images have no label" in failure("tsne", images, tmp_path / "o.png", *words)


def test_tsne_tells_mistakes(tmp_path, images, weights):
    out = tmp_path / "o.png"
    words = ("tsne", images, out, "--weights", weights)
    assert "vgg16 has no such layer; near it are fc.0, fc" in failure(*words, "--layer", "fc0")
    assert "at least 5 images, found 1" in failure(
        "tsne", images / "0_0.png", out, "--weights", weights
    )
    assert "give a name that ends in .png" in failure("tsne", images, tmp_path / "o.jpg")
    assert "there is no folder" in failure("tsne", images, tmp_path / "x/o.png")
    assert "found a folder" in failure("tsne", images, _folder(tmp_path / "o2.png"))
    assert not out.exists()


def test_tsne_of_a_segmenter(tmp_path, images, weights):
    words = ("--weights", weights, "--member", "fcn8s")
    assert "expected a classifier" in failure("tsne", images, tmp_path / "o.png", *words)


def _folder(path):
    path.mkdir()
    return path


def test_a_layers_output_is_what_it_was_before_the_next_layer_changed_it():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Flatten()).eval()
    preprocessing = Preprocessing(size=2, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    outputs = LayerOutputs(network, find_layer(network, "0", "x"), preprocessing, "cpu")
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 2, 3), np.uint8)
    found = outputs(images)
    inputs = torch.from_numpy((images.astype(np.float32) / 255 - 0.5) / 0.25).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = network[0](inputs).mean((2, 3)).numpy()
    assert found.shape == (5, 4)
    assert found.min() < 0
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_clusters_stay_clusters():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    features = (rng.normal(size=(40, 8)) + 30 * labels[:, None]).astype(np.float32)
    points = embed(features, seed=0)
    np.testing.assert_array_equal(points, embed(features, seed=0))
    assert not np.array_equal(points, embed(features, seed=1))
    middles = np.stack([points[labels == label].mean(0) for label in (0, 1)])
    distances = np.linalg.norm(points[:, None] - middles, axis=2)
    np.testing.assert_array_equal(distances.argmin(1), labels)


def test_masks_of_checkpoints_side_by_side(tmp_path, tiles, segmenter):
    out = tmp_path / "m.png"
    words = ("--truth", tiles, "--checkpoint", segmenter, "--checkpoint", segmenter)
    result = run("masks", tiles, out, *words)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}: 2 images\n"
    found = {tuple(colour) for colour in colours_in(out).tolist()}
    assert {tuple(colour) for colour in COLOURS.tolist()} <= found


def test_masks_tells_mistakes(tmp_path, tiles, segmenter, weights):
    out = tmp_path / "m.png"
    vgg16 = weights / "vgg16.safetensors"
    assert "expected a segmenter's" in failure("masks", tiles, out, "--checkpoint", vgg16)
    words = ("--checkpoint", segmenter, "--truth", tmp_path)
    assert "no PNG masks in it" in failure("masks", tiles, out, *words)
    Image.new("RGB", (2, 2)).save(tmp_path / "0010_mask.png")
    assert "1 images have no mask: 0097" in failure("masks", tiles, out, *words)
    words = ("--checkpoint", segmenter, "--include", "*_mask.png")
    assert "there are masks alone" in failure("masks", tiles, out, *words)
    assert run("masks", tiles, out).exit_code == 2  # no --checkpoint


def test_masks_of_too_many_or_broken_images(tmp_path, segmenter):
    folder = _folder(tmp_path / "many")
    (folder / "0.jpg").write_bytes(b"")
    words = ("masks", folder, tmp_path / "m.png", "--checkpoint", segmenter)
    assert "0.jpg: empty" in failure(*words)
    for index in range(17):
        Image.new("RGB", (2, 2)).save(folder / f"{index}.jpg")
    assert "17 images, and a figure has room for 16" in failure(*words)


def test_titles_say_which_checkpoint_it_is():
    # As hw1 train writes them.
    metadata = {"epoch": "3 of 12", "scores": json.dumps({"miou": 0.61234})}
    path = Path("run/early/fcn8s.safetensors")
    checkpoint = Checkpoint(
        "fcn8s",
        path,
        "",
        Preprocessing(size=None),
        metadata,
        1,
        "fcn8s",
        "segment",
        REFERENCE_SEGMENTER,
    )
    assert title_of(checkpoint) == "early/fcn8s\nepoch 3 of 12, mIoU 0.6123"
    assert title_of(checkpoint, tta=True) == "early/fcn8s\nepoch 3 of 12, --tta"
    assert title_of(replace(checkpoint, metadata={})) == "early/fcn8s"


METRICS = """epoch,step,loss,held_out_miou,held_out_iou_urban,held_out_iou_water
1,10,1.5,0.4,0.5,0.3
2,20,1.2,0.5,0.6,
"""


def test_curves_of_runs(tmp_path: Path) -> None:
    (tmp_path / "fcn8s").mkdir()
    (tmp_path / "fcn8s" / "metrics.csv").write_text(METRICS)
    (tmp_path / "vgg16.csv").write_text("epoch,loss,accuracy\n1,2.0,0.5\n")
    output = tmp_path / "curves.png"
    result = run("curves", tmp_path / "fcn8s", output)
    assert result.output == f"{output}: 1 run, 2 epochs\n"
    with Image.open(output) as figure:
        alone = figure.size
    result = run("curves", tmp_path / "fcn8s", tmp_path / "vgg16.csv", output)
    assert result.output == f"{output}: 2 runs, 2 epochs\n"
    with Image.open(output) as figure:
        assert figure.size == alone  # loss, mIoU and classes; loss, accuracy and mIoU


@pytest.mark.parametrize("epochs", [1, 5])
def test_epochs_are_whole_numbers_on_their_axis(
    epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: list[float] = []
    monkeypatch.setattr(
        "hw1.plotting.curves.save", lambda figure, path: ticks.extend(figure.axes[0].get_xticks())
    )
    rows = [f"{epoch},{3 / epoch},0.5" for epoch in range(1, epochs + 1)]
    (tmp_path / "a.csv").write_text("\n".join(["epoch,loss,miou", *rows]))
    plot_curves([tmp_path / "a.csv"], tmp_path / "x.png")
    assert set(range(1, epochs + 1)) <= set(ticks)
    assert all(tick == int(tick) for tick in ticks)


@pytest.mark.filterwarnings("error")
def test_any_name_of_a_run_is_a_curves(tmp_path: Path) -> None:
    (tmp_path / "_run").mkdir()
    (tmp_path / "_run" / "metrics.csv").write_text(METRICS)
    result = run("curves", tmp_path / "_run", tmp_path / "curves.png")
    assert result.output == f"{tmp_path / 'curves.png'}: 1 run, 2 epochs\n"


def test_a_table_that_a_spreadsheet_wrote(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(METRICS, encoding="utf-8-sig")
    assert read_run(tmp_path).columns["epoch"] == [1, 2]


def test_an_epoch_that_diverged_is_a_gap(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,loss\n1,2\n2,nan\n3,inf\n4,1e308\n5,-1e308\n")
    result = run("curves", tmp_path, tmp_path / "curves.png")
    assert result.output == f"{tmp_path / 'curves.png'}: 1 run, 5 epochs\n"
    assert np.isnan(read_run(tmp_path).columns["loss"]).tolist() == [False, *[True] * 4]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "No such file"),
        ("", "a row for each epoch"),
        ("step,loss\n1,2\n", "a column epoch"),
        ("epoch,loss\n1,low\n", "expected numbers"),
        ("epoch,step\n1,2\n", "no column of loss"),
        ("\x89PNG\n\0", "a row for each epoch"),
        ("epoch,loss\n1,2\ninf,1\n", "expected an epoch in each row"),
        ("epoch,loss\n1,2\n,1\n", "expected an epoch in each row"),
    ],
)
def test_a_table_that_is_no_runs(text: str | None, error: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "metrics.csv").write_text(text)
    assert error in failure("curves", tmp_path, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()
