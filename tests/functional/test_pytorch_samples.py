"""Every function on the samples of PyTorch's own tests (OpInfo), in every mode: values, derivatives and errors.

`--exhaustive` runs every mode with every sample in every dtype. Without it, the modes other than value and gradients
get a few samples that have each value of each option.
"""

import inspect
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
import torch
from mode_checks import COMPILE, FLOAT64, Pair, assert_same, every_case, some_cases
from sample_call import SampleCall

from bp_torch import functional
from bp_torch.catalogue import CATALOGUE

# PyTorch has no samples of these: the catalogue has, and module_db of the lp_pools and of recurrent layers.
WITHOUT_SAMPLES = {"squared_error", "to", "dropout1d", "fold", "lp_pool1d", "lp_pool2d", "lp_pool3d", "upsample"}
WITHOUT_SAMPLES |= {f"{name}{cell}" for name in ("rnn_tanh", "rnn_relu", "gru", "lstm") for cell in ("", "_cell")}
WITHOUT_SAMPLES |= {"geglu", "lora_linear", "rotary_embedding", "swiglu"}  # not in torch

LEFT_OUT = {"nuc", "triton_optimized"}  # variants: the nuclear norm, which bp_torch does not have; samples for CUDA
WEIGHT_FIRST = {"embedding", "embedding_bag"}  # in the samples
# The catalogue's references: PyTorch's round 1/6 to float32, or a second derivative to 10⁻¹², or it is 0 with options.
MORE_EXACT = {"hardsigmoid", "binary_cross_entropy", "linear_cross_entropy"}
PREFIX = "nn.functional."

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # some samples broadcast, for instance
NAMES = sorted(set(functional.__all__) - WITHOUT_SAMPLES)
names = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def operations() -> dict[str, list[Any]]:
    """PyTorch's OpInfos by function name, torch.nn.functional's first; imported here because it takes seconds."""
    pytest.importorskip("expecttest", reason="PyTorch's own samples need expecttest")
    from torch.testing._internal.common_methods_invocations import op_db

    by_name: dict[str, list[Any]] = {}
    for op in op_db:
        if op.variant_test_name not in LEFT_OUT:
            by_name.setdefault(op.name.strip("_"), []).append(op)
    return by_name | {name.removeprefix(PREFIX): by_name[name] for name in by_name if name.startswith(PREFIX)}


def builtin_of(operation: Any) -> Callable[..., Any]:
    """PyTorch's function. An OpInfo of a random one has a wrapper instead, which seeds it."""
    name = operation.name.removeprefix(PREFIX)
    if name in MORE_EXACT:
        return CATALOGUE[name].reference
    if name == operation.name or name in WEIGHT_FIRST:
        return operation.op
    return getattr(torch.nn.functional, name)


def hand_of(name: str) -> Callable[..., Any]:
    if name == "where":  # its samples have the condition second
        return lambda input, condition, other: functional.where(condition, input, other)
    if name == "einsum":  # its samples have the equation second
        return lambda operands, equation: functional.einsum(equation, operands)
    if name in WEIGHT_FIRST:
        return lambda weight, input, **options: getattr(functional, name)(input, weight, **options)
    return getattr(functional, name)


def pairs_of(name: str, operation: Any) -> list[Pair]:
    """The samples of an OpInfo that have a gradient."""
    torch.manual_seed(0)
    samples = list(operation.sample_inputs("cpu", torch.float64, requires_grad=True, set_seed=False))
    calls = [SampleCall.make(builtin_of(operation), (s.input, *s.args), s.kwargs) for s in samples]
    return [Pair(call.of(hand_of(name)), call) for call in calls if call.positions]


@names
def test_in_every_mode(name: str, operations: dict[str, list[Any]], exhaustive: bool) -> None:
    for operation in operations[name]:
        pairs = pairs_of(name, operation)
        compiled = ((COMPILE, FLOAT64, pair) for pair in pairs)
        assert_same(name, chain(every_case(pairs), compiled) if exhaustive else some_cases(pairs))


@pytest.mark.parametrize("name", NAMES[::4])
def test_compiles_into_one_graph(name: str, operations: dict[str, list[Any]]) -> None:
    """Some of them: the catalogue's samples of all are compiled elsewhere."""
    pairs = [pair for operation in operations[name] for pair in pairs_of(name, operation)]
    longest = max(pairs, key=lambda pair: len(pair.builtin.leaves))
    assert_same(name, [(COMPILE, FLOAT64, longest)])


@names
def test_errors_are_of_pytorchs_types(name: str, operations: dict[str, list[Any]]) -> None:
    for operation in operations[name]:
        for error_input in operation.error_inputs("cpu") if operation.error_inputs_func else ():
            sample = error_input.sample_input
            if "out" in sample.kwargs and "out" not in inspect.signature(hand_of(name)).parameters:
                continue
            hand, builtin = (
                error_of(function, (sample.input, *sample.args), sample.kwargs)
                for function in (hand_of(name), builtin_of(operation))
            )
            where = f"{name}: {sample.summary()}: raised {hand!r}, PyTorch's {builtin!r}"
            assert isinstance(hand, type(builtin)), where  # such as NotImplementedError for a RuntimeError


def error_of(function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Exception | None:
    try:
        function(*args, **options)
    except Exception as error:
        return error
    return None
