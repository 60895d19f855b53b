"""Compare a hand-written function with PyTorch's in every mode, on the samples of PyTorch's own tests.

A sample is left out of a mode in which PyTorch's own function raises, or differs from itself.
"""

import inspect
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import modes
import torch
from sample_call import Results, SampleCall
from torch import Tensor

from bp_torch.gradients.comparison import ROUNDINGS, compare, distance
from bp_torch.gradients.perturbation import perturbed

Dtypes = tuple[torch.dtype, ...]
FLOAT64: Dtypes = (torch.float64,)
FLOAT32: Dtypes = (torch.float32,)
BFLOAT16: Dtypes = (torch.bfloat16,)
MIXED: Dtypes = (torch.bfloat16, torch.float32)  # of the first input, and of the others
EVERY_DTYPE: tuple[Dtypes, ...] = (FLOAT64, FLOAT32, BFLOAT16, (torch.float16,), MIXED)
AUTOCAST_DTYPES: tuple[Dtypes, ...] = (FLOAT32, FLOAT64, BFLOAT16, MIXED)


@dataclass(frozen=True)
class Mode:
    name: str
    of_hand: Callable[[SampleCall], Results]
    of_builtin: Callable[[SampleCall], Results]
    dtypes: tuple[Dtypes, ...] = (FLOAT64, BFLOAT16)
    exact: Callable[[SampleCall], Results] | None = None  # in float64, if not `of_builtin`
    parameter: str | None = None  # of the functions that have this mode

    def __str__(self) -> str:
        return self.name


GRADIENTS = Mode("value and gradients", modes.gradients, modes.gradients, EVERY_DTYPE)
MODES = (
    GRADIENTS,
    Mode("layouts", modes.gradients_in_layouts, modes.gradients_named_by_layout),
    Mode("subsets", modes.gradients_of_subsets, modes.gradients_of_subsets),
    Mode("double backward", modes.second_derivatives, modes.second_derivatives),
    Mode("forward mode", modes.tangents, modes.pytorchs_tangents),
    Mode("batched gradients", modes.batched_gradients, modes.gradients_one_by_one),
    Mode("vmap", modes.vmapped, modes.one_after_another),
    Mode("autocast", modes.under_autocast, modes.under_autocast, AUTOCAST_DTYPES, exact=modes.gradients),
    Mode("in place", modes.in_place, modes.in_place, parameter="inplace"),
    Mode("out", modes.into_out, modes.into_out, parameter="out"),
)


COMPILE = Mode("compile", modes.compiled, modes.gradients, (FLOAT64,))
PYTORCHS_ERRORS = (RuntimeError, TypeError, ValueError, IndexError)


class Pair(NamedTuple):
    """The same call of a hand-written function and of PyTorch's."""

    hand: SampleCall
    builtin: SampleCall


Case = tuple[Mode, Dtypes, Pair]


def assert_same(name: str, cases: Iterable[Case]) -> None:
    """Compare each case; an AssertionError names those that differ, with the numbers."""
    outcomes = [check(*case) for case in cases]
    wrong = [line for lines in outcomes for line in lines or []]
    assert not wrong, f"{name}: {len(wrong)} results differ from PyTorch's\n" + "\n".join(wrong[:10])
    assert [] in outcomes, f"{name}: nothing was compared"


def every_case(pairs: Sequence[Pair]) -> Iterator[Case]:
    """Every sample in every mode and dtype."""
    return ((mode, dtypes, pair) for mode in modes_of(pairs) for dtypes in EVERY_DTYPE for pair in pairs)


def some_cases(pairs: Sequence[Pair], few: int | None = None) -> Iterator[Case]:
    """Many samples for value and gradients; for the other modes `few`, by default each value of each option once."""
    chosen = covering(pairs)[:few]
    for mode in modes_of(pairs):
        first, *others = mode.dtypes
        many, several = (drawn(pairs, 60), drawn(pairs, 10)) if mode is GRADIENTS else (chosen, drawn(chosen, 3))
        yield from ((mode, first, pair) for pair in many)
        yield from ((mode, dtypes, pair) for dtypes in others for pair in several)


def modes_of(pairs: Sequence[Pair]) -> list[Mode]:
    """The modes that a function has."""
    parameters = inspect.signature(pairs[0].hand.function).parameters
    return [mode for mode in MODES if mode.parameter is None or mode.parameter in parameters]


def covering(pairs: Sequence[Pair]) -> list[Pair]:
    """A small subset that has every form of every argument; the sample with the most forms first, then small ones."""
    forms = {number: pair.builtin.forms for number, pair in enumerate(pairs)}
    missing: set[object] = set().union(*forms.values())
    chosen: list[int] = []
    while missing:
        chosen.append(max(forms, key=lambda i: (len(forms[i] & missing), -pairs[i].builtin.size)))
        missing -= forms[chosen[-1]]
    return [pairs[number] for number in chosen]


def drawn(pairs: Sequence[Pair], number: int) -> list[Pair]:
    """At most so many, drawn at random."""
    return random.Random(0).sample(pairs, min(number, len(pairs)))


def check(mode: Mode, dtypes: Dtypes, pair: Pair) -> list[str] | None:
    """Compare one call in one mode; return what is wrong, or None if PyTorch's own function raises or is wrong."""
    hand, builtin = (call.to(*dtypes) for call in pair)
    try:
        expected = mode.of_builtin(builtin)
    except PYTORCHS_ERRORS:
        return None
    exact = builtin.to(torch.float64)
    known = dtypes != FLOAT64 and not exact.is_random()  # in another dtype, the random numbers are others
    truth = (mode.exact or mode.of_builtin)(exact) if known else expected
    wrong = differences(mode, hand, expected, truth)
    if wrong and mode.of_hand is modes.tangents:
        wrong = differences(mode, hand, modes.tangents_by_reverse(builtin), truth)
    if wrong and known:
        wrong = differences(mode, hand, expected, truth, typical_errors(mode, dtypes, pair.builtin))
    if wrong and mode.of_hand is not mode.of_builtin and differences(mode, builtin, expected, truth):
        return None
    where = f"{mode} in {', '.join(str(d).removeprefix('torch.') for d in dtypes)} of ({pair.hand})"
    return [f"{where}: {line}" for line in wrong]


def typical_errors(mode: Mode, dtypes: Dtypes, builtin: SampleCall) -> dict[str, float]:
    """PyTorch's largest errors at slightly perturbed inputs: at a single one they may be small by chance."""
    errors: dict[str, float] = {}
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        call = builtin.at([perturbed(x.detach(), generator) for x in builtin.inputs()]).to(*dtypes)
        truth = (mode.exact or mode.of_builtin)(call.to(torch.float64))
        for name, result in mode.of_builtin(call).items():
            if result.is_floating_point() and result.numel():
                errors[name] = max(errors.get(name, 0.0), distance(result, truth[name]).max().item())
    return errors


def differences(
    mode: Mode, call: SampleCall, expected: Results, truth: Results, errors: Mapping[str, float] | None = None
) -> list[str]:
    """What is wrong with the results of a call in a mode; `errors` are PyTorch's typical ones, if measured."""
    try:
        actual = mode.of_hand(call)
    except Exception as error:
        return [f"raised {type(error).__name__}: {str(error)[:500]}"]
    if actual.keys() != expected.keys():
        return [f"these results differ from PyTorch's: {sorted(actual.keys() ^ expected.keys())}"]
    finite = [
        x.abs().max().item() for x in truth.values() if x.is_floating_point() and x.numel() and x.isfinite().all()
    ]
    scale = max([1.0, *finite]) if expected is truth else max([0.0, *finite]) / ROUNDINGS  # one rounding of the largest
    # PyTorch's rounding errors one by one say less about those of a batch
    leeway = 1 if expected is truth or mode.of_hand is mode.of_builtin else 2
    errors = errors or {}
    lines = [difference(key, actual[key], expected[key], truth[key], scale, leeway, errors.get(key)) for key in actual]
    return [line for line in lines if line]


def difference(
    name: str, hand: Tensor, builtin: Tensor, truth: Tensor, scale: float, leeway: int, typical_error: float | None
) -> str:
    """How a result differs from PyTorch's; empty if by rounding only.

    Args:
        name: the name of the result.
        hand: the hand-written function's.
        builtin: PyTorch's, in the same dtype.
        truth: PyTorch's in float64.
        scale: size of the terms, which may cancel. In low precision PyTorch's own error shows that they did.
        leeway: factor of the tolerance.
        typical_error: PyTorch's, if measured.
    """
    if (hand.shape, hand.dtype) != (builtin.shape, builtin.dtype):
        return f"{name}: {hand.dtype} {list(hand.shape)}, PyTorch's {builtin.dtype} {list(builtin.shape)}"
    if not hand.is_floating_point():
        return "" if torch.equal(hand, builtin) else f"{name}: {hand.tolist()}, PyTorch's {builtin.tolist()}"
    if (truth.abs() > torch.finfo(hand.dtype).max).any():
        return ""  # some of `pow` in float16
    comparison = replace(compare(name, hand, builtin, truth, scale=scale), typical_error=typical_error)
    allowed = comparison.tolerance if comparison.conclusive else 8 * comparison.builtin_error
    return "" if comparison.error <= leeway * allowed else str(comparison)
