"""Checks in the sample's own dtypes, and in float32.

A gradient that is right in float64 may be wrong in bfloat16: a sum stops growing, a square overflows, a statistic is
rounded. So the conditions differ: upstream gradients of ones and of one sign, at the scale of a loss scaler and below,
large and small inputs, many rows. The truth is the gradient in float64 at the rounded inputs.
"""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from bp_torch.gradients.axes import axes_of, resized
from bp_torch.gradients.call import Call, vjp
from bp_torch.gradients.case import CheckCase, Outcomes, catch_errors, max_abs, without_cancellation
from bp_torch.gradients.checks.first_order import compare_gradients
from bp_torch.gradients.comparison import Comparison
from bp_torch.gradients.perturbation import Evaluate, Gradients, GradientTriple, compare_all, perturbed
from bp_torch.gradients.population import systematic_error
from bp_torch.gradients.report import Outcome, comparison_outcome, failed, left_out, unsupported
from bp_torch.gradients.variants import Variant

SCALES = (400.0, 4.0, 2.0**-8)
"""Factors for the inputs: the squares of the large ones overflow in float16."""
MOST_ROWS = 4096
MAX_COMPONENTS = 20_000
"""Largest number of components of an input in a variant: sums of many rounded terms have errors of their own."""
SATURATED = 1e-4
"""Fraction of the gradient at the sample below which a function is saturated."""
LARGEST_ERROR = 0.1
"""Relative error of a value, without a reference, above which it is outside the range of its dtype."""
MAX_FAILURES = 3
"""Number of variants with a wrong gradient, after which others are checked for MAX_SECONDS only."""
MAX_SECONDS = 0.5
LOSS_SCALE = 16
"""Largest power of 2 that an upstream gradient is multiplied by."""
ROUNDINGS = 64
"""Number of roundings that a chain of operations explains, without a reference."""
LOW = (torch.bfloat16, torch.float16)
LOW_EPS = 1e-5
"""Machine epsilon above which a systematic error of one rounding matters."""

ACCUMULATE = "accumulate in float32, and round once, at the end"

Condition = tuple[Variant, Tensor]


def precision(case: CheckCase) -> Outcomes:
    """The gradient is correct up to rounding errors, for calls in low precision.

    With a reference, it must be as accurate as the reference in the same dtypes. Without one, the truth is the
    function's own gradient in float64, already compared with finite differences, and the usual rounding error is
    unknown. Then an error that changes at perturbed inputs is allowed to be √ε, half of the digits.
    """
    try:
        value = case.call.value()
        truth = case.oracle.to(torch.float64).value()
    except Exception as error:  # an unsupported dtype may raise anything
        yield case.as_given, unsupported(error)
        return
    if case.reference is not None and not _takes(case.call.of(case.reference)):
        yield case.as_given.under("against the reference"), unsupported("the reference raises in these dtypes")
        case = replace(case, reference=None)
    if case.call.structure.seed is not None and not torch.allclose(value.double(), truth, rtol=0.1, atol=0.1):
        yield case.as_given, left_out("the random numbers differ in this dtype")
        return
    failures, limit = 0, time.monotonic() + MAX_SECONDS
    for variant, upstream in _conditions(case) if is_low(case.call) else _first_conditions(case):
        if failures >= MAX_FAILURES and time.monotonic() > limit:
            yield replace(variant, label="the rest"), left_out("the verdict is clear")
            return
        outcomes = list(catch_errors(variant, _compare(case, variant, upstream)))
        failures += any(outcome.status == "failed" for _, outcome in outcomes)
        yield from outcomes


def _takes(call: Call) -> bool:
    try:
        call.vjp(call.value())
    except Exception:  # an unsupported dtype may raise anything
        return False
    return True


def is_low(call: Call) -> bool:
    """Whether an argument is in low precision."""
    return any(x.dtype in LOW for x in call.args if isinstance(x, Tensor))


def _first_conditions(case: CheckCase) -> Iterator[Condition]:
    yield case.as_given, case.upstream
    yield case.as_given.under("upstream gradient of ones"), torch.ones_like(case.upstream)


def _conditions(case: CheckCase) -> Iterator[Condition]:
    yield from _first_conditions(case)
    yield case.as_given.under("upstream gradient of one sign"), case.upstream.abs()
    yield case.as_given.under("upstream gradient equal to the output"), case.as_given.value
    yield _scaled(case, case.as_given, case.upstream, small=True)
    for variant in (case.as_given, *_variants(case)):
        if variant.kind == "given" or _in_domain(case, variant.call):
            yield _scaled(case, variant, case.random_like(variant.value))
            yield variant.under("upstream gradient of ones"), torch.ones_like(variant.value)


def _scaled(case: CheckCase, variant: Variant, upstream: Tensor, *, small: bool = False) -> Condition:
    """An upstream gradient as large as a loss scale makes it without an overflow, or almost too small."""
    gradients = _oracle_gradients(case, variant.call, upstream)
    limits = [torch.finfo(upstream.dtype).max / (max_abs(upstream) or 1)]
    for name, gradient in gradients.items():
        limits.append(torch.finfo(variant.call.by_name[name].dtype).max / (max_abs(gradient) or 1))
    margin = 32 if variant.kind == "size" else 2  # sums of many terms may overflow
    power = min(LOSS_SCALE, math.floor(math.log2(min(limits) / margin)))
    if small:
        power = -9 - math.floor(math.log2(max(map(max_abs, gradients.values())) or 1))
    return variant.under(f"upstream gradient times 2^{power}"), upstream * 2.0**power


def _variants(case: CheckCase) -> Iterator[Variant]:
    call = case.call
    for factor in SCALES:
        yield Variant("scaled", f"scaled by {factor:g}", call.at([x * factor for x in call.inputs]))
    for axis in axes_of(call):
        components = max(call.args[position].numel() for position, *_ in axis.dims) // axis.size
        size = min(MOST_ROWS, MAX_COMPONENTS // max(components, 1))
        if size <= axis.size or axis.allowed or axis.reason:
            continue
        if other := resized(call, {axis: size}, case.generator):
            yield Variant("size", axis.label(size), other)


def _in_domain(case: CheckCase, call: Call) -> bool:
    if not case.in_domain(call):
        return False
    oracle = call.of(case.oracle.function)
    value, truth = oracle.value().double(), oracle.to(torch.float64).value()
    if case.reference is None and max_abs(value - truth) > LARGEST_ERROR * max_abs(truth):
        return False
    gradients = _oracle_gradients(case, call, torch.ones_like(value))
    return all(g.isfinite().all() for g in gradients.values())


def _oracle_gradients(case: CheckCase, call: Call, upstream: Tensor) -> dict[str, Tensor]:
    return call.of(case.oracle.function).to(torch.float64).vjp(upstream.double())


def _compare(case: CheckCase, variant: Variant, upstream: Tensor) -> Outcomes:
    """Compare the gradient with the truth; after a failure, with what rounding the output explains."""
    outcomes = dict(_outcomes(case, variant, upstream))
    if any(outcome.status == "failed" for outcome in outcomes.values()) and _saves_output(variant.call):
        others = dict(_outcomes(case, variant, upstream, output=True))
        outcomes = {name: others[name] if one.status == "failed" else one for name, one in outcomes.items()}
    for outcome in outcomes.values():
        yield variant, outcome


def _outcomes(
    case: CheckCase, variant: Variant, upstream: Tensor, *, output: bool = False
) -> Iterator[tuple[str, Outcome]]:
    def evaluate(generator: torch.Generator | None) -> GradientTriple:
        call = variant.call.at([perturbed(x, generator) for x in variant.call.inputs])
        grad_output = perturbed(upstream, generator)
        hand, truth = call.vjp(grad_output), _oracle_gradients(case, call, grad_output)
        if output:
            hand = _without_error_of_output(call, grad_output, hand)
        if case.reference is not None:
            return hand, call.of(case.reference).vjp(grad_output), truth
        return hand, {name: gradient.to(hand[name].dtype) for name, gradient in truth.items()}, truth

    first = hand, builtin, truth = evaluate(None)
    eps = max(torch.finfo(x.dtype).eps for x in (*variant.call.inputs, upstream))
    scales = _scales(case, variant, upstream, truth)
    for comparison in compare_all(evaluate, scales, first=first):
        name = comparison.name
        outcome = _outcome(case, comparison, eps)
        if outcome.status == "failed" and not builtin[name].isfinite().all():
            outcome = unsupported("the reference is not finite here")
        elif outcome.status == "failed":
            wide = _in_float64(case, variant, upstream, name)
            outcome = wide or replace(outcome, hint=outcome.hint or (ACCUMULATE if eps > LOW_EPS else ""))
        elif eps > LOW_EPS:
            references = builtin if case.reference is not None else {}
            finding = systematic_error(hand[name], references.get(name), truth[name], eps, scales[name])
            outcome = _confirmed(case, evaluate, name, eps, scales[name]) if finding else outcome
        yield name, outcome


def _without_error_of_output(call: Call, upstream: Tensor, hand: Gradients) -> dict[str, Tensor]:
    """The gradients without the error that comes from a saved output, which is rounded like the one returned.

    The derivative of tanh is 1 − y²: PyTorch computes it from y as returned, and so does an attention that saves its
    output. The error is the difference that such a Tensor makes in float64.
    """
    wide = call.to(torch.float64)
    exact, (output, leaves, _) = wide.vjp(upstream.double()), _with_saved_output(call)
    inexact = wide.named(vjp(output, leaves, upstream.double()))
    return {name: (hand[name].double() - inexact[name] + exact[name]).to(hand[name].dtype) for name in hand}


def _saves_output(call: Call) -> bool:
    """Whether the function saves an output for its backward, as far as it takes float64."""
    try:
        return _with_saved_output(call)[2]
    except Exception:  # an unsupported dtype may raise anything
        return False


def _with_saved_output(call: Call) -> tuple[Tensor, list[Tensor], bool]:
    """Output and leaves in float64, with saved outputs as returned in the call's dtypes, and whether there are any."""
    wide, found = call.to(torch.float64), []
    with torch.no_grad():
        pairs = [*zip(wide.clone().parts(), call.clone().parts(), strict=True)]

    def as_returned(saved: Tensor) -> Tensor:
        equal = [low for value, low in pairs if value.shape == saved.shape and torch.equal(value, saved)]
        found.extend(equal)
        return equal[0].to(saved.dtype) if equal else saved

    with torch.autograd.graph.saved_tensors_hooks(as_returned, lambda saved: saved):
        return *wide.run(), bool(found)


def _scales(case: CheckCase, variant: Variant, upstream: Tensor, truth: Mapping[str, Tensor]) -> dict[str, float]:
    """The magnitude of each gradient, from which its rounding errors are computed."""
    signs = case.random_like(upstream) * (max_abs(upstream) or 1.0)
    scales = _oracle_gradients(case, variant.call, signs)  # of an upstream gradient for which terms do not cancel
    sizes = {name: max(max_abs(gradient), max_abs(scales[name])) for name, gradient in truth.items()}
    size = max_abs(upstream) / (max_abs(case.upstream) or 1.0)
    if variant.kind == "scaled":  # where a function saturates, its rounding errors remain
        given = {name: size * case.scales[name] for name in sizes}
        sizes = {name: given[name] if own < SATURATED * given[name] else own for name, own in sizes.items()}
    if case.reference is None:
        larger = without_cancellation(variant.call, variant.value, upstream)
        sizes = {name: max(own, larger[name]) for name, own in sizes.items()}
    return sizes


def _outcome(case: CheckCase, comparison: Comparison, eps: float) -> Outcome:
    """Without a reference, an error that changes, or disappears, at perturbed inputs may be rounding.

    In low precision a single component can be on the other side of a kink, so only the population decides.
    """
    outcome = comparison_outcome(comparison)
    changes = comparison.lost_to_rounding or (comparison.error_size_ratio or 1.0) < 0.5
    changes = changes or comparison.error <= ROUNDINGS * eps * comparison.magnitude
    if case.reference is not None or not changes or not math.isfinite(comparison.error):
        return outcome
    half = math.sqrt(eps) * comparison.magnitude
    if eps > LOW_EPS or comparison.error <= half:
        return replace(outcome, status="passed", ratio=min(comparison.error / (half or 1.0), 1.0), message="")
    return outcome


def _in_float64(case: CheckCase, variant: Variant, upstream: Tensor, name: str) -> Outcome | None:
    """The failure of the same gradient in float64, at the rounded inputs, if there is one: a kink, or the equation."""
    wide = variant.call.to(torch.float64)
    if case.reference is None or not case.has_float64:
        return None
    other = replace(case, call=wide)
    point = replace(variant, call=wide)
    outcomes = (outcome for _, outcome in compare_gradients(other, point, upstream.double()))
    return next((outcome for outcome in outcomes if outcome.input == name and outcome.status != "passed"), None)


def _confirmed(case: CheckCase, evaluate: Evaluate, name: str, eps: float, scale: float) -> Outcome:
    """A failure, if a systematic error is still there at perturbed inputs."""
    hand, builtin, truth = evaluate(torch.Generator().manual_seed(0))
    reference = None if case.reference is None else builtin[name]
    finding = systematic_error(hand[name], reference, truth[name], eps, scale)
    if not finding:
        return Outcome("passed", name)
    return failed(f"SYSTEMATIC ERROR in low precision: {finding}", input=name, hint=ACCUMULATE)
