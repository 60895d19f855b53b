"""Variants of a call: other values, sizes and layouts."""

import pytest
import torch
from torch import Tensor

from bp_torch.gradients.call import Call, as_calls
from bp_torch.gradients.variants import Variant, channels_last, expanded, offset, strided, transposed, variants


@pytest.fixture
def call() -> Call:
    generator = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((5, 4), (3, 4), (3,)))
    return as_calls(torch.nn.functional.linear, [(x, w, b)])[0]


def all_variants(call: Call) -> list[Variant]:
    return list(variants(call, torch.Generator().manual_seed(0)))


def test_every_kind_occurs(call: Call) -> None:
    labels = [variant.label for variant in all_variants(call)]
    assert len(set(labels)) == len(labels)
    assert {variant.kind for variant in all_variants(call)} == {"scaled", "kink", "constant", "size", "empty"}
    for label in (
        "scaled by -1",
        "scaled by 1000",
        "with zeros",
        "with ties",
        "with equal inputs",
        "size 5 changed to 1",
        "a row of zeros",
        "all inputs equal",
    ):
        assert label in labels


def test_sizes_change(call: Call) -> None:
    """5 examples, 4 inputs, 3 outputs: the shapes stay compatible."""
    shapes = {v.label: [tuple(x.shape) for x in v.call.inputs] for v in all_variants(call) if v.kind == "size"}
    assert shapes["size 5 changed to 33"] == [(33, 4), (3, 4), (3,)]
    assert shapes["every size 33 or more"] == [(35, 34), (33, 34), (33,)]
    (empty,) = (v for v in all_variants(call) if v.kind == "empty")
    assert (empty.label, empty.call.inputs[0].shape) == ("size 5 changed to 0", (0, 4))
    for variant in all_variants(call):
        (x, weight, bias), value = variant.call.inputs, variant.call.value()
        assert value.shape == (len(x), len(weight)) == (len(x), len(bias))


def test_a_module_keeps_the_sizes_of_its_parameters() -> None:
    call = as_calls(torch.nn.Linear(4, 3), [(torch.randn(5, 4),)])[0]
    shapes = {tuple(x.shape for x in variant.call.inputs[1:]) for variant in all_variants(call)}
    assert shapes == {(torch.Size([3, 4]), torch.Size([3]))}


def test_fixed_arguments_change_too() -> None:
    x, w, mask = torch.randn(4, 3, requires_grad=True), torch.rand(4, 3), torch.rand(4, 3) > 0.5
    call = as_calls(lambda x, w, mask: (x * w).masked_fill(mask, 0.0), [(x, w, mask)])[0]
    changed = {variant.label: variant.call.args[1:] for variant in all_variants(call)}
    assert (changed["with zeros in fixed arguments"][0] == 0).sum() == 6
    assert changed["with a row of True in the mask"][1][0].all()
    assert not changed["with a row of False in the mask"][1][0].any()
    assert torch.equal(changed["scaled by 30"][0], w.detach())


def test_what_sums_to_one_stays_so() -> None:
    x = torch.rand(4, 3, dtype=torch.float64)
    (call,) = as_calls(torch.log, [(x / x.sum(-1, keepdim=True),)])
    for variant in all_variants(call):
        values = variant.call.value().exp()
        if values.isfinite().all():
            torch.testing.assert_close(values.sum(-1), torch.ones(len(values), dtype=torch.float64))


@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 3), (2, 3, 4), (0, 3)])
def test_other_layouts_have_the_same_values(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    for other in (strided(x), transposed(x), offset(x)):
        assert torch.equal(other, x)
    assert offset(x).is_contiguous()
    assert offset(x).storage_offset() == 1
    if x.numel() > 1:
        assert not strided(x).is_contiguous()
    if x.dim() > 1 and x.numel():
        assert not transposed(x).is_contiguous()
        assert expanded(x).stride(0) == 0
        assert torch.equal(expanded(x), x[:1].repeat(len(x), *[1] * (x.dim() - 1)))


def test_channels_last() -> None:
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(channels_last(x), x)
    assert channels_last(x).is_contiguous(memory_format=torch.channels_last)
    assert channels_last(x[0]).is_contiguous()


def test_strided_has_nan_in_its_gaps() -> None:
    x = strided(torch.tensor([1.0, 2.0]))
    assert x.as_strided((2,), (1,))[1].isnan()


def test_values_at_kinks(call: Call) -> None:
    by_label: dict[str, tuple[Tensor, ...]] = {variant.label: variant.call.inputs for variant in all_variants(call)}
    assert (by_label["with zeros"][0] == 0).sum() == 10
    assert {0.0, 1.0, -1.0} <= set(by_label["with kink points"][0].flatten().tolist())
    assert len(by_label["with ties"][0].unique()) == 10
    assert not by_label["all zeros"][0].any()
    assert len(by_label["all equal"][0].unique()) == 1
    same = as_calls(torch.nn.functional.l1_loss, [(torch.randn(4), torch.randn(4))])[0]
    input, target = next(variant for variant in all_variants(same) if variant.label == "with equal inputs").call.inputs
    assert (input == target).tolist() == [True, False, True, False]
