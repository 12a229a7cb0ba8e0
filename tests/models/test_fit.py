"""Whether a state dict fits a member, and what is said where it doesn't."""

import pytest
import torch
from torch import Tensor

from hw1.core.errors import InputError
from hw1.models.fit import cast, check, fit, looks_like
from hw1.models.members import MEMBERS
from hw1.models.registry import layout

State = dict[str, Tensor]


def blank(member: str) -> State:
    """The member's names and shapes; no values, so that it costs nothing."""
    return {
        name: torch.empty(
            shape,
            device="meta",
            dtype=torch.int64 if name.endswith("num_batches_tracked") else torch.float32,
        )
        for name, shape in layout(member).items()
    }


@pytest.mark.parametrize("member", MEMBERS)
def test_each_members_layout_fits_it_and_no_other(member: str) -> None:
    state = blank(member)
    check(state, member, "x")
    assert looks_like(layout(member)) == (member, 1.0)
    other = "vgg16" if member != "vgg16" else "fcn8s"
    with pytest.raises(InputError, match=rf"^x doesn't fit {other}: .*\. It fits {member}$"):
        check(state, other, "x")


def test_the_first_names_that_differ_are_named() -> None:
    state = blank("vgg16")
    for name in list(state)[:5]:
        del state[name]
    state["extra"] = torch.empty(1, device="meta")
    state["fc.2.bias"] = torch.empty(100, device="meta")
    with pytest.raises(InputError) as caught:
        check(state, "vgg16", "x.pth")
    assert str(caught.value) == (
        "x.pth doesn't fit vgg16: it lacks backbone.0.weight, backbone.0.bias, backbone.2.weight "
        "and 2 more; it has extra; fc.2.bias is (100,), not (50,)"
    )


def test_a_thousand_classes_are_distinguished_from_fifty() -> None:
    state = blank("resnet152")
    state["fc.weight"] = torch.empty(1000, 2048, device="meta")
    state["fc.bias"] = torch.empty(1000, device="meta")
    with pytest.raises(InputError) as caught:
        check(state, "resnet152", "x.pth")
    assert str(caught.value) == (
        "x.pth doesn't fit resnet152: fc.weight is (1000, 2048), not (50, 2048), fc.bias is "
        "(1000,), not (50,)"
    )
    with pytest.raises(InputError, match=r"It looks like resnet152$"):
        check(state, "densenet169", "x.pth")


def test_a_foreign_state_looks_like_nothing() -> None:
    with pytest.raises(InputError) as caught:
        check({"a": torch.ones(1)}, "vgg16", "x.pth")
    assert "fits" not in str(caught.value)
    assert "looks like" not in str(caught.value)


def test_integers_are_no_weights() -> None:
    state = blank("vgg16")
    state["fc.0.bias"] = torch.empty(256, device="meta", dtype=torch.int8)
    with pytest.raises(InputError, match=r"fc\.0\.bias holds torch\.int8"):
        check(state, "vgg16", "x")


@pytest.mark.parametrize("side", range(1, 7))
def test_a_collapsed_vgg19_bn_fits(side: int) -> None:
    state = blank("vgg19_bn_2")
    state["classifier.0.weight"] = torch.empty(4096, 512 * side**2, device="meta")
    check(state, "vgg19_bn_2", "x")
    with pytest.raises(InputError, match="It fits vgg19_bn_2"):
        check(state, "vgg19_bn_1", "x")


def test_checkpoints_from_before_the_norms_counted_fit() -> None:
    state = blank("densenet169")
    old = {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}
    check(old, "densenet169", "x")
    assert looks_like({name: tuple(t.shape) for name, t in old.items()}) == ("densenet169", 1.0)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    state = {name: torch.zeros(shape) for name, shape in layout("vgg16").items()}
    state["fc.2.bias"][7] = value
    with pytest.raises(InputError, match=r"fc\.2\.bias aren't finite"):
        fit(state, "vgg16", "x")


def test_a_dtype_that_is_too_narrow_is_refused() -> None:
    state = {"a": torch.tensor([1.0, 65504.0]), "n": torch.tensor(100_000)}
    changed = cast(state, torch.float16, "x")
    assert changed["a"].dtype == torch.float16
    assert changed["n"].dtype == torch.int64
    with pytest.raises(InputError, match=r"x: a has values beyond torch\.float16"):
        cast({"a": torch.tensor([1.0, 1e5])}, torch.float16, "x")
