"""Normalization modules over several steps: running statistics, both modes, inputs without a batch."""

import copy
from typing import Any

import pytest
import torch

import bp_torch.nn

SHAPES = {"1d": (4, 3, 5), "2d": (4, 3, 2, 4), "3d": (2, 3, 2, 2, 2)}
OPTIONS: tuple[dict[str, Any], ...] = (
    {"affine": True, "track_running_stats": True},
    {"affine": True, "track_running_stats": True, "momentum": None},
    {"affine": False, "track_running_stats": True, "momentum": 0.7, "eps": 0.3},
    {"affine": True, "track_running_stats": False},
)


def both(name: str, **options: Any) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The hand-written module, and torch.nn's with its state."""
    hand, builtin = (getattr(package, name)(3, **options).double() for package in (bp_torch.nn, torch.nn))
    if options["affine"]:
        torch.nn.init.normal_(hand.weight)
        torch.nn.init.normal_(hand.bias)
    builtin.load_state_dict(hand.state_dict())
    return hand, builtin


def outputs_and_gradients(module: torch.nn.Module, inputs: list[torch.Tensor]) -> list[Any]:
    """In training, then in evaluation, then in training again."""
    results: list[Any] = []
    for number, input in enumerate(inputs):
        module.train(number not in (2, 3))
        x = input.clone().requires_grad_()
        y = module(x)
        results.append([y, *torch.autograd.grad((y**3).sum(), [x, *module.parameters()])])
        results.append(copy.deepcopy(module.state_dict()))
    return results


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", [f"{kind}Norm{dim}" for kind in ("Batch", "Instance") for dim in SHAPES])
def test_steps_as_torch_takes_them(name: str, options: dict[str, Any]) -> None:
    hand, builtin = both(name, **options)
    inputs = [torch.randn(SHAPES[name[-2:]], dtype=torch.float64) + number for number in range(5)]
    torch.testing.assert_close(outputs_and_gradients(hand, inputs), outputs_and_gradients(builtin, inputs))
    hand.load_state_dict(builtin.state_dict())


@pytest.mark.parametrize("dim", SHAPES)
def test_instance_norm_of_one_example(dim: str) -> None:
    for affine in (False, True):
        hand, builtin = both(f"InstanceNorm{dim}", affine=affine, track_running_stats=True)
        inputs = [torch.randn(SHAPES[dim][1:], dtype=torch.float64) for _ in range(4)]
        torch.testing.assert_close(outputs_and_gradients(hand, inputs), outputs_and_gradients(builtin, inputs))


def test_wrong_numbers_of_dimensions_and_channels() -> None:
    for package in (bp_torch.nn, torch.nn):
        with pytest.raises(ValueError, match="expected 4D"):
            package.BatchNorm2d(3)(torch.randn(4, 3))
        with pytest.raises(ValueError, match="num_features"):
            package.InstanceNorm1d(3, affine=True)(torch.randn(4, 2, 5))
        with pytest.warns(UserWarning, match="num_features") as caught:
            package.InstanceNorm1d(3)(torch.randn(4, 2, 5))
        assert caught[0].filename == torch.nn.modules.module.__file__


def test_the_output_may_be_changed_in_place() -> None:
    """As by ReLU(inplace=True) after BatchNorm."""
    gradients = []
    for package in (bp_torch.nn, torch.nn):
        torch.manual_seed(0)
        chain = torch.nn.Sequential(package.BatchNorm1d(3), package.ReLU(inplace=True))
        x = torch.randn(4, 3, requires_grad=True)
        gradients.append(torch.autograd.grad((chain(x) ** 2).sum(), x)[0])
    torch.testing.assert_close(*gradients)
