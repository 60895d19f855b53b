"""Nested arguments and outputs, keyword inputs and complex numbers."""

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from gradients.checking import numbers
from torch import Tensor

from bp_torch.gradients import CannotCheck, check_gradients
from bp_torch.gradients.call import as_calls
from bp_torch.gradients.containers import float_tensors, leaves, rebuild
from bp_torch.sample import Sample

FIRST_ORDER = ("value", "gradient", "layouts", "unused outputs")
Pair = namedtuple("Pair", ["left", "right"])


@dataclass(frozen=True)
class Weights:
    scale: Any
    name: str = "w"


class Product(torch.autograd.Function):
    """x y, with the gradient of y times a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.factor = factor
        return x * y

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, None]:
        x, y = ctx.saved_tensors
        return grad_output * y.conj(), ctx.factor * grad_output * x.conj(), None


def product(x: Tensor, y: Tensor, factor: float) -> Tensor:
    return Product.apply(x, y, factor)  # type: ignore[no-any-return, no-untyped-call]


NESTED: dict[str, tuple[Any, Callable[..., Any]]] = {
    "list": ([1, 2], lambda v: v),
    "tuple in a dict": ({"a": (1,), "b": {"c": 2}}, lambda v: (v["a"][0], v["b"]["c"])),
    "namedtuple": (Pair(1, 2), lambda v: (v.left, v.right)),
    "dataclass": (Weights([1, 2]), lambda v: v.scale),
    "None": ([None, 1, 2], lambda v: v[1:]),
}


@pytest.mark.parametrize("value", [v for v, _ in NESTED.values()], ids=list(NESTED))
def test_a_container_is_rebuilt(value: Any) -> None:
    found = [leaf for _, leaf in leaves(value)]
    assert rebuild(value, iter(found)) == value
    changed = rebuild(value, iter([3 for _ in found]))
    assert type(changed) is type(value)
    assert {leaf for _, leaf in leaves(changed)} == {3}


def test_a_leaf_has_a_path() -> None:
    assert [path for path, _ in leaves({"a": [1], 2: Weights(3)}, "x")] == ["x['a'][0]", "x[2].scale", "x[2].name"]


def test_the_tensors_of_an_output() -> None:
    one, two = torch.ones(2), torch.tensor([1 + 2j])
    found = float_tensors({"a": one, "b": [two, torch.arange(3), None, torch.eye(2).to_sparse()]})
    assert [part.tolist() for part in found] == [[1, 1], [[1, 2]]]


@pytest.mark.parametrize("factor", [1.0, 2.0])
@pytest.mark.parametrize(("shape", "take"), NESTED.values(), ids=list(NESTED))
def test_nested_arguments_are_checked(shape: Any, take: Callable[..., Any], factor: float) -> None:
    tensors = {1: numbers(3), 2: numbers(3) + 1, None: None, "w": "w"}
    sample = rebuild(shape, iter([tensors[leaf] for _, leaf in leaves(shape)]))
    report = check_gradients(lambda v: product(*take(v), factor), [(sample,)], checks=FIRST_ORDER)  # type: ignore[call-arg]
    assert report.passed == (factor == 1), str(report)
    assert len(report.inputs) == 2


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize(
    "output", [lambda y: {"y": y}, lambda y: [(y, None)], lambda y: Weights(y), lambda y: Pair(1, y)]
)
def test_nested_outputs_are_checked(output: Callable[[Tensor], Any], wrong: bool) -> None:
    factor = 2.0 if wrong else 1.0
    report = check_gradients(lambda x, y: output(product(x, y, factor)), [(numbers(3), numbers(3))])
    assert report.passed != wrong, str(report)


@pytest.mark.parametrize("factor", [1.0, 100.0])
@pytest.mark.parametrize("reference", [torch.mul, None])
def test_complex_inputs(factor: float, reference: Callable[..., Tensor] | None) -> None:
    """PyTorch's convention: the gradient is conjugated."""
    z = torch.view_as_complex(numbers(3, 2))
    report = check_gradients(lambda x, z: product(x, z, factor), [(z.flip(0), z)], reference=reference)
    assert report.passed == (factor == 1), str(report)
    assert report.inputs == ("x", "z")
    assert all(result.input == "z" for result in report.failures if result.check == "gradient")


def test_a_gradient_that_is_not_conjugated_is_wrong() -> None:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Tensor) -> Tensor:
            ctx.save_for_backward(z)
            return z * z

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Tensor:
            return 2 * ctx.saved_tensors[0] * grad_output  # type: ignore[no-any-return]

    z = torch.view_as_complex(numbers(3, 2))
    assert check_gradients(torch.square, [(z,)], checks=FIRST_ORDER).passed
    assert not check_gradients(Square, [(z,)], checks=FIRST_ORDER).passed
    assert check_gradients(Square, [(z.real,)], checks=FIRST_ORDER).passed


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_keyword_inputs_that_require_a_gradient_are_checked(factor: float) -> None:
    sample = Sample((numbers(3),), {"y": numbers(3).requires_grad_(), "factor": factor})
    report = check_gradients(product, [sample], checks=FIRST_ORDER)
    assert report.inputs == ("y",)
    assert report.passed == (factor == 1), str(report)


def test_keyword_inputs_are_fixed_by_default() -> None:
    (call,) = as_calls(product, [Sample((numbers(3),), {"y": numbers(3), "factor": 2.0})])
    assert call.names == {0: "x"}
    assert torch.equal(call.value(), numbers(3) ** 2)


@pytest.mark.parametrize("nest", [lambda x: (x,), lambda x: ({"a": [x]},)])
def test_sparse_arguments_are_refused_by_name(nest: Callable[[Tensor], tuple[Any, ...]]) -> None:
    path = next(path for path, _ in leaves(nest(numbers(2, 2))[0]))
    with pytest.raises(CannotCheck, match=r"sparse_coo: only dense Tensors") as caught:
        check_gradients(torch.Tensor.sum, [nest(numbers(2, 2).to_sparse())])
    assert path in str(caught.value)
