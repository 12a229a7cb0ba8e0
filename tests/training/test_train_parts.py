"""The schedule, augmentation, Winograd's convolutions, first weights, growing."""

import copy
import math
from itertools import pairwise
from pathlib import Path
from urllib.error import URLError

import pytest
import tiny_training as tiny
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hw1.core.errors import InputError
from hw1.core.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from hw1.models import checkpoints, files, registry
from hw1.models._torchvision import models
from hw1.models.backbones import vgg16_features, vgg19_bn_features
from hw1.models.registry import build
from hw1.training import augment, grow, initial, optimise
from hw1.training.depthwise import use_small_depthwise
from hw1.training.device import PendingScalar, has_room_for
from hw1.training.history import History
from hw1.training.optimise import Schedule, fit, learning_rate, plan, side
from hw1.training.recipe import usual_rate
from hw1.training.winograd import train_fast, use_winograd


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples() -> Tensor:
    return torch.randn(16, 3, 32, 32, generator=generator())


# The schedule


def test_a_members_optimiser_and_normalisation_are_its_own() -> None:
    weight = nn.Parameter(torch.ones(1))
    lite = tiny.recipe(Path(), member="efficientnet_lite2", init="imagenet.safetensors")
    made = optimise.optimiser(lite, [weight], [])
    assert isinstance(made, torch.optim.AdamW)
    assert (lite.head_lr, lite.weight_decay, lite.warmup) == (4.0, 0.03, 0.1)
    assert lite.preprocessing == Preprocessing(32, 1.0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert usual_rate("classify", "efficientnet_lite2") == 6e-4
    vgg = tiny.recipe(Path(), member="vgg16", init="features.safetensors")
    assert isinstance(optimise.optimiser(vgg, [weight], []), torch.optim.SGD)
    assert vgg.preprocessing == Preprocessing(32, 1.0, IMAGENET_MEAN, IMAGENET_STD)
    assert usual_rate("classify", "vgg16") == 0.01


def test_the_learning_rate_rises_and_falls() -> None:
    recipe = tiny.recipe(Path(), lr=0.1)
    rates = [learning_rate(recipe, step / 1000) for step in range(1000)]
    top = rates.index(max(rates))
    assert rates[0] == 0
    assert max(rates) == pytest.approx(0.1)
    assert top == pytest.approx(150, abs=1)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 1e-5


def test_crops_grow_in_equal_stages() -> None:
    recipe = tiny.segment_recipe(Path(), size=192, size_from=128)
    sides = [side(recipe, step / 300) for step in range(300)]
    assert sides == [128] * 100 + [160] * 100 + [192] * 100
    assert side(tiny.recipe(Path(), size=48, size_from=48), 0.3) == 48


@given(st.integers(1, 500), st.integers(1, 64), st.integers(1, 9), st.integers(1, 600))
def test_every_epoch_has_a_step_and_the_last_one_ends_the_schedule(
    images: int, batch: int, epochs: int, epoch_images: int
) -> None:
    recipe = tiny.recipe(Path(), batch_size=batch, epochs=epochs, epoch_images=epoch_images)
    schedule = plan(recipe, images)
    ends = [schedule.epoch_end(epoch) for epoch in range(schedule.epochs)]
    assert schedule.epochs == epochs
    assert ends == sorted(set(ends))
    assert ends[-1] == schedule.steps
    # As many images as asked for, or as there are, but for a batch that would be incomplete.
    step_images = min(batch, images)
    assert 0 <= epoch_images - schedule.epoch_steps * step_images < step_images or (
        schedule.epoch_steps == 1 and epoch_images < step_images
    )


def test_a_budget_counts_steps_and_scoring() -> None:
    assert fit(Schedule(1000, 100), 10, 1.0, 20.0) == Schedule(500, 100)
    assert fit(Schedule(1000, 100), 0.001, 1.0, 0.0) == Schedule(1, 100)


def test_tiles_go_to_a_gpu_where_they_leave_room(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = [torch.zeros(3, 10, 10, dtype=torch.uint8)] * 4  # 1,200 bytes
    assert not has_room_for(tiles, torch.device("cpu"))
    free = 4_800
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10**9))
    assert has_room_for(tiles, torch.device("cuda"))
    free = 4_799
    assert not has_room_for(tiles, torch.device("cuda"))


def test_a_gpu_is_waited_for_before_its_scalar_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    memory = torch.zeros(())

    class Event:
        def record(self) -> None:
            done.append("recorded")

        def synchronize(self) -> None:
            memory.fill_(3)  # by now the copy has arrived
            done.append("waited")

    class Scalar:
        is_cuda = True

        def to(self, device: str, *, non_blocking: bool) -> Tensor:
            assert (device, non_blocking) == ("cpu", True)
            done.append("copied")
            return memory

    monkeypatch.setattr(torch.cuda, "Event", Event)
    value = PendingScalar(Scalar())  # type: ignore[arg-type]
    assert done == ["copied", "recorded"]
    assert value.read() == 3
    assert PendingScalar(torch.tensor(2.5)).read() == 2.5


# Augmentation


def test_photos_are_drawn_by_the_generator_alone() -> None:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=generator())
    one, same, other = (augment.photos(images, 48, generator(seed)) for seed in (1, 1, 2))
    assert one.shape == (4, 3, 48, 48)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.min() > -80
    assert one.max() < 350


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(20, 60), st.integers(20, 60), st.sampled_from([32, 64]))
def test_a_mask_is_cut_as_its_tile(seed: int, height: int, width: int, out: int) -> None:
    classes = torch.randint(0, 7, (height, width), dtype=torch.uint8, generator=generator(seed))
    classes[0, 0] = 255
    image = classes.expand(3, -1, -1) * 35
    pixels, targets = augment.tiles([image], [classes], (out, out), out, generator(seed))
    assert pixels.shape == (1, 3, out, out)
    assert targets.shape == (1, out, out)
    if min(height, width) < out:
        return  # enlarged: pixels between classes
    # Brightness and contrast map each class to one value, in order.
    values = [pixels[0, 0][targets[0] == c] for c in range(7) if (targets[0] == c).any()]
    assert all(v.max() - v.min() < 1e-3 for v in values)
    assert all(a.mean() < b.mean() for a, b in pairwise(values))


def test_tiles_get_another_tint_and_saturation() -> None:
    classes = torch.zeros(32, 32, dtype=torch.uint8)
    grey = torch.full((3, 32, 32), 100, dtype=torch.uint8)
    coloured = torch.tensor([50, 100, 150], dtype=torch.uint8).view(3, 1, 1).expand(3, 32, 32)
    spreads = []
    for seed in range(20):
        arguments = ([grey, coloured], [classes, classes], (32, 32), 32, generator(seed))
        pixels = augment.tiles(*arguments)[0].mean((2, 3))
        ratio = pixels[0] / pixels[0].mean()
        assert (ratio - 1).abs().max() < 0.15  # grey but for a tint
        spreads.append(float((pixels[1, 2] - pixels[1, 0]) / pixels[1].mean()))
    assert min(spreads) < 0.75  # 1 as it is
    assert max(spreads) > 1.25


def test_tiles_keep_their_colours_where_that_is_asked_for() -> None:
    classes = torch.zeros(32, 32, dtype=torch.uint8)
    image = torch.tensor([50, 100, 150], dtype=torch.uint8).view(3, 1, 1).expand(3, 32, 32)
    for seed in range(10):
        pixels, _ = augment.tiles([image], [classes], (32, 32), 32, generator(seed), 0.0)
        assert torch.allclose(pixels[0], image.float(), atol=1e-3)


def turns(how: augment.Augment) -> list[float]:
    """The slope of an edge that divides a photo's halves, in the crops of twenty seeds."""
    halves = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    halves[..., 16:, :] = 200
    found = []
    for seed in range(20):
        crop = augment.photos(halves, 64, generator(seed), how)[0].mean(0)
        heights = (crop > crop.mean()).sum(0).float()  # of the bright half, in each column
        found.append(float(heights[48] - heights[16]) / 32)
    return found


def test_only_strong_changes_turn_photos_and_by_no_more_than_said() -> None:
    assert max(map(abs, turns("usual"))) == 0
    strong = turns("strong")
    assert min(strong) < -0.1 < 0.1 < max(strong)
    # tan 15° = 0.27, in crops that are up to e^0.4 as wide as high
    assert max(map(abs, strong)) < 0.27 * 1.5 + 2 / 32


def test_strong_changes_tint_photos_and_usual_ones_do_not() -> None:
    grey = torch.full((8, 3, 32, 32), 100, dtype=torch.uint8)
    tints = {}
    for how in ("usual", "strong"):
        colours = augment.photos(grey, 32, generator(), how).mean((2, 3))
        tints[how] = float((colours / colours.mean(1, keepdim=True) - 1).abs().max())
    assert tints["usual"] < 1e-4
    assert 0.02 < tints["strong"] < 0.15


@pytest.mark.parametrize("how", ["none", "mixup", "cutmix"])
def test_mixed_targets_stay_probabilities(how: augment.Mix) -> None:
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 32, 32)
    targets = torch.eye(4)
    for seed in range(20):
        mixed, probabilities = augment.mix(images, targets, how, generator(seed))
        assert torch.allclose(probabilities.sum(1), torch.ones(4))
        # The share of each image's pixels is that of its label.
        expected = probabilities @ torch.arange(4.0)
        assert torch.allclose(mixed.mean((1, 2, 3)), expected, atol=1e-4)


@pytest.mark.parametrize("how", ["mixup", "cutmix"])
def test_about_half_of_the_batches_are_mixed(how: augment.Mix) -> None:
    images, targets = torch.rand(8, 3, 32, 32, generator=generator()), torch.eye(8)
    seen = [augment.mix(images, targets, how, generator(seed))[0] for seed in range(60)]
    assert 15 < sum(not torch.equal(mixed, images) for mixed in seen) < 45


# Winograd's convolutions


@pytest.mark.parametrize("shape", [(8, 8), (12, 4), (5, 7), (6, 10)])
def test_winograd_gives_the_same_results(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(80, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 5, 1))
    fast = copy.deepcopy(plain)
    assert use_winograd(fast) == 1
    assert fast.state_dict().keys() == plain.state_dict().keys()
    inputs = [torch.randn(3, 80, *shape, requires_grad=True)]
    inputs.append(inputs[0].detach().clone().requires_grad_())
    outputs = [net(x) for net, x in zip((plain, fast), inputs, strict=True)]
    for output in outputs:
        output.square().sum().backward()
    pairs = [outputs, [x.grad for x in inputs]]
    parameters = zip(plain.parameters(), fast.parameters(), strict=True)
    pairs += [[one.grad, other.grad] for one, other in parameters]
    for one, other in pairs:
        assert one is not None
        assert torch.allclose(one, other, atol=1e-4 * one.abs().max().item())


def test_winograd_stands_back() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1),  # too few channels
        nn.Conv2d(64, 64, 3, padding=1),
        nn.Conv2d(80, 8, 3, padding=1, stride=2),
        nn.Conv2d(80, 80, 3, padding=1, groups=80),
        nn.Conv2d(80, 8, 1),
    )
    assert use_winograd(network) == 0
    layer = nn.Conv2d(80, 8, 3, padding=1)
    small, images = torch.randn(1, 80, 8, 3), torch.randn(1, 80, 8, 8)
    expected = layer(small), layer(images)
    assert use_winograd(layer) == 1
    assert torch.equal(layer(small), expected[0])  # less than a tile
    assert torch.equal(layer.eval()(images), expected[1])


def small_depthwise(kernel: int) -> nn.Conv2d:
    return nn.Conv2d(6, 6, kernel, padding=kernel // 2, groups=6, bias=False)


@pytest.mark.parametrize(
    ("kernel", "shape"), [(5, (4, 4)), (5, (1, 3)), (5, (7, 2)), (3, (2, 2)), (3, (5, 5))]
)
def test_small_depthwise_convolutions_give_the_same_results(
    kernel: int, shape: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    plain = small_depthwise(kernel).double()
    fast = copy.deepcopy(plain)
    use_small_depthwise(fast)
    images = [torch.randn(3, 6, *shape).double().requires_grad_()]
    images.append(images[0].detach().clone().requires_grad_())
    outputs = [net(x) for net, x in zip((plain, fast), images, strict=True)]
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(outputs[1], outputs[0])
    torch.testing.assert_close(images[1].grad, images[0].grad)
    torch.testing.assert_close(fast.weight.grad, plain.weight.grad)


def test_small_depthwise_convolutions_train_in_bf16() -> None:
    torch.manual_seed(0)
    plain = small_depthwise(5)
    fast = copy.deepcopy(plain)
    use_small_depthwise(fast)
    for images in (torch.randn(3, 6, 4, 4), torch.randn(3, 6, 4, 4).bfloat16()):
        gradients = []
        for layer in (plain, fast):
            layer.zero_grad()
            given = images.clone().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16):
                output = layer(given)
            output.float().square().sum().backward()
            gradients.append((layer.weight.grad, given.grad))
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=0.05, atol=0.5)


def test_other_convolutions_stay_as_they_are() -> None:
    layers = nn.Sequential(
        nn.Conv2d(6, 6, 3, padding=1),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),  # has a bias
        nn.Conv2d(6, 12, 3, padding=1, groups=6, bias=False),
        nn.Conv2d(6, 6, 5, padding=1, groups=6, bias=False),
        nn.Conv2d(6, 6, 5, stride=2, padding=2, groups=6, bias=False),
    )
    use_small_depthwise(layers)
    assert {type(layer) for layer in layers} == {nn.Conv2d}


def test_winograd_is_for_frozen_layers_too() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(80, 8, 3, padding=1)
    frozen = nn.Sequential(layer, nn.BatchNorm2d(8)).requires_grad_(False).eval()
    images = torch.randn(2, 80, 8, 8)
    plain = frozen(images)
    assert use_winograd(frozen) == 1
    train_fast([frozen])
    fast = frozen(images)
    assert torch.allclose(fast, plain, atol=1e-4)
    assert not torch.equal(fast, plain)  # so it was Winograd's method
    assert not frozen[1].training  # its statistics stay


# First weights


@pytest.fixture(scope="module")
def vgg16_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VGG16's convolutions under torchvision's names, nothing else."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("vgg16") / "features.safetensors"
    state = {f"features.{key}": value for key, value in vgg16_features().state_dict().items()}
    files.write(state, path, {})
    return path


@pytest.mark.parametrize("member", ["vgg16", "fcn32s"])
def test_convolutions_of_a_file(member: str, vgg16_file: Path) -> None:
    begun = initial.start(member, str(vgg16_file), 32, samples)
    expected, _ = files.parse(vgg16_file.read_bytes(), vgg16_file)
    layers = initial.convolutions(begun.network)
    assert layers is not None
    given = vgg16_features()
    given.load_state_dict({key.removeprefix("features."): v for key, v in expected.items()})
    one, other = evaluated(layers, samples()), evaluated(given, samples())
    if member == "vgg16":
        assert torch.equal(one, other)
    else:  # rescaled
        assert torch.allclose(
            one * (other.sum() / one.sum()), other, atol=1e-4 * other.max().item()
        )
        assert one.std() < 2
    backbone = {id(parameter) for parameter in layers.parameters()}
    head = initial.head(begun.network)
    assert len(backbone) + len(head) == len(list(begun.network.parameters()))


def test_a_whole_checkpoint(tmp_path: Path) -> None:
    network = build("vgg16")
    path = tmp_path / "any.safetensors"
    checkpoints.save(network, path, "vgg16", Preprocessing(32), {}, dtype="fp32")
    begun = initial.start("vgg16", str(path), 32, samples).network
    assert begun.training
    assert all(parameter.requires_grad for parameter in begun.parameters())
    for key, value in network.state_dict().items():
        assert torch.equal(begun.state_dict()[key], value)
    # Its convolutions suit a segmenter, too; a densenet has no use for them.
    segmenter = initial.start("fcn8s", str(path), 32, samples).network
    ours, theirs = (n.state_dict() for n in (segmenter, network))
    ratio = ours["to_pool3.0.weight"] / theirs["backbone.0.weight"]
    assert torch.allclose(ratio, ratio.flatten()[0], rtol=1e-3)
    with pytest.raises(InputError, match=r"any.safetensors doesn't fit densenet169.*vgg16"):
        initial.start("densenet169", str(path), 32, samples)


def test_a_module_that_holds_the_network_begins_a_run(tmp_path: Path) -> None:
    state = build("timm:test_resnet", classes=7).state_dict()
    inside = {f"backbone.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": {**inside, "loss.weight": torch.ones(7)}}, tmp_path / "a.ckpt")
    begun = initial.start("timm:test_resnet", str(tmp_path / "a.ckpt"), 32, samples, classes=3)
    assert begun.origin.endswith("a.ckpt, all but the last layer")
    name = next(iter(state))
    assert torch.equal(begun.network.state_dict()[name], state[name])


def test_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*args: object, **options: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"--init imagenet.*no route.*--init FILE"):
        initial.start("vgg16", "imagenet", 32, samples)
    with pytest.raises(InputError, match="No such file"):
        initial.start("vgg16", str(tmp_path / "none.pth"), 32, samples)


def test_torchvisions_weights_for_all_but_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        registry.CLASSIFIERS,
        "densenet169",
        lambda classes: models.densenet.DenseNet(4, (1, 1, 1, 1), 8, num_classes=classes),
    )
    theirs = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.")  # as they were published
        if "denselayer" in name
        else name: torch.full_like(value, 2)
        for name, value in build("densenet169").state_dict().items()
    }
    theirs["classifier.weight"] = torch.full((1000, 23), 2.0)
    theirs["classifier.bias"] = torch.full((1000,), 2.0)
    monkeypatch.setattr(initial, "_fetch", lambda name: theirs)
    network = initial.start("densenet169", "imagenet", 32, samples).network
    left = {key for key, value in network.state_dict().items() if not (value == 2).all()}
    assert left == {"classifier.weight", "classifier.bias"}
    assert {id(p) for p in initial.head(network)} == {
        id(network.classifier.weight),  # type: ignore[union-attr]
        id(network.classifier.bias),  # type: ignore[union-attr]
    }


def test_another_heads_weights_for_all_but_the_head(tmp_path: Path) -> None:
    path = tmp_path / "imagenet.safetensors"
    theirs = {
        name: torch.full_like(value, 2).half() if value.is_floating_point() else value
        for name, value in build("efficientnet_lite2").state_dict().items()
    }
    theirs["classifier.weight"] = torch.full((1000, 1280), 2.0)
    theirs["classifier.bias"] = torch.full((1000,), 2.0)
    files.write(theirs, path, {})
    begun = initial.start("efficientnet_lite2", str(path), 32, samples)
    assert begun.origin == "imagenet.safetensors, all but its head"
    left = {key for key, value in begun.network.named_parameters() if not (value == 2).all()}
    assert left == {"classifier.weight", "classifier.bias"}
    del theirs["bn2.weight"]
    files.write(theirs, path, {})
    with pytest.raises(InputError, match=r"fit efficientnet_lite2: it lacks bn2\.weight"):
        initial.start("efficientnet_lite2", str(path), 32, samples)


def test_torchvision_has_no_efficientnet_lite2() -> None:
    with pytest.raises(InputError, match=r"torchvision has no efficientnet_lite2.*--init FILE"):
        initial.start("efficientnet_lite2", "imagenet", 32, samples)


def test_torchvisions_vgg19_bn_is_older_than_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    state = vgg19_bn_features().state_dict()
    theirs = {
        f"features.{name}": torch.full_like(value, 2)
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }
    monkeypatch.setattr(initial, "_fetch", lambda name: theirs)
    layers = initial.convolutions(initial.start("vgg19_bn_2", "imagenet", 32, samples).network)
    assert layers is not None
    assert all((value == 2).all() for value in layers.parameters())


def test_fcn8s_begins_with_its_coarsest_prediction_alone() -> None:
    torch.manual_seed(0)
    network = initial.start("fcn8s", "scratch", 32, samples).network.eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        logits = network(images)
        layers = initial.convolutions(network)
        assert layers is not None
        coarse = network.to_pool5_predict(layers(images))  # type: ignore[operator]
    assert torch.allclose(logits, F.interpolate(coarse, scale_factor=32, mode="nearest"))


@pytest.mark.parametrize(
    ("member", "frozen"),
    [
        ("vgg16", {"backbone.0.weight", "backbone.7.bias"}),
        ("fcn8s", {"to_pool3.0.weight", "to_pool3.7.bias"}),
        ("resnet152", {"conv1.weight", "layer1.2.conv3.weight"}),
        ("densenet169", {"features.conv0.weight", "features.transition1.conv.weight"}),
        ("efficientnet_lite2", {"conv_stem.weight", "blocks.1.2.bn3.bias"}),
    ],
)
def test_freezing_two_blocks(member: str, frozen: set[str]) -> None:
    network = build(member, "meta")
    initial.freeze(network, 2)
    fixed = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen <= fixed
    assert len(fixed) < len(list(network.parameters())) / 2
    with pytest.raises(InputError, match="blocks"):
        initial.freeze(network, 99)


def test_features_of_the_head_are_dropped_in_training_alone(tmp_path: Path) -> None:
    begun = tmp_path / "fcn8s.safetensors"
    checkpoints.save(build("fcn8s"), begun, "fcn8s", Preprocessing(None), {})
    for init in ("scratch", str(begun)):
        network = initial.start("fcn8s", init, 32, samples, dropout=0.5).network
        dropouts = [layer for layer in network.modules() if isinstance(layer, nn.Dropout)]
        assert [layer.p for layer in dropouts] == [0.5, 0.5]
    plain = build("fcn8s")
    plain.load_state_dict(network.state_dict())  # the names are the contract's
    inputs = torch.randn(1, 3, 64, 64, generator=generator())
    with torch.inference_mode():
        assert not torch.equal(network(inputs), network(inputs))
        assert torch.equal(network.eval()(inputs), plain.eval()(inputs))
        kept = initial.start("fcn8s", str(begun), 32, samples, dropout=0.0).network
        assert torch.equal(kept(inputs), kept(inputs))


# What a run keeps


@pytest.mark.parametrize(
    ("name", "scores", "best"),
    [
        ("held_out_log_loss", [2.0, 1.0, 1.5], 2),
        ("miou", [0.2, 0.5, 0.4], 2),
        ("miou", [0.5, 0.5, 0.4], 2),
        ("log_loss", [2.0, math.nan, math.nan], 1),
        ("log_loss", [math.nan, math.nan, math.nan], 3),
    ],
)
def test_the_best_epoch(name: str, scores: list[float], best: int) -> None:
    rows = [{"epoch": float(epoch), name: score} for epoch, score in enumerate(scores, 1)]
    assert History(rows).best(name) == best
    assert History(rows).best("none of these") == 3


# Growing


def evaluated(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        outputs: Tensor = network.eval()(images)
    return outputs


def test_growing_preserves_the_function() -> None:
    torch.manual_seed(0)
    small, large = vgg16_features(), vgg19_bn_features()
    for layer in small:
        if isinstance(layer, nn.Conv2d):
            nn.init.uniform_(layer.bias, -0.1, 0.1)
            layer.weight.data *= 1.5  # activations grow, as those of trained weights
    images = samples()
    factor = grow.into_vgg19_bn(small, large, images)
    fresh = torch.randn(8, 3, 32, 32)
    for some in (images, fresh):
        expected = evaluated(small, some)
        assert torch.allclose(
            evaluated(large, some) * factor, expected, atol=1e-4 * float(expected.max())
        )
    # In training it takes the batch's statistics: on the images it was calibrated on, the same.
    expected = evaluated(small, images)
    with torch.no_grad():
        trained = large.train()(images) * factor
    assert (trained - expected).norm() < 0.1 * expected.norm()
    norms = [layer for layer in large if isinstance(layer, nn.BatchNorm2d)]
    assert all(0.2 < norm.weight.mean().item() < 2 for norm in norms)


def test_a_vgg19_bn_grows_and_comes_collapsed(
    vgg16_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def given() -> Tensor:
        asked.append(1)
        return samples()

    def light(name: str, **_: object) -> nn.Module:
        # Without the 100 million weights that collapsing drops.
        network = build("vgg19_bn_2", "meta")
        network.features = vgg19_bn_features()
        network.classifier = nn.Sequential(nn.Linear(25088, 8), nn.ReLU(), nn.Linear(8, 50))
        return network

    monkeypatch.setattr(initial, "build", light)
    begun = initial.start("vgg19_bn_2", str(vgg16_file), 32, given)
    assert asked == [1]
    assert begun.network.classifier[0].in_features == 512  # type: ignore[index,union-attr]
    assert evaluated(begun.network, samples()).shape == (16, 50)
    assert "grown" in begun.origin
