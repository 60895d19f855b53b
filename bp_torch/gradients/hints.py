"""Hints: patterns of common mistakes in a wrong gradient."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from bp_torch.gradients.call import Call
from bp_torch.gradients.comparison import Comparison
from bp_torch.gradients.report import Result

RTOL = 1e-6
"""Relative difference up to which two gradients count as equal."""
APPROXIMATE = 1e-4
"""Relative error up to which a wrong gradient may be an approximation."""
PRECISIONS = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def for_gradient(comparison: Comparison, hand: Tensor, truth: Tensor, call: Call, upstream: Tensor) -> str:
    """The first pattern that fits a wrong gradient, given the correct one in float64; empty if none fits."""
    hand, truth = hand.detach().double(), truth.detach()
    if not hand.isfinite().all():
        return "not finite, but the correct gradient is: an overflow, or 0/0 in the unused branch of a torch.where?"
    if not hand.any():
        return "the gradient is zero: is it missing from the backward? Constants: require a gradient of the others only"
    return (
        _low_precision(comparison, truth)
        or _upstream_misuse(comparison.name, hand, call, upstream)
        or _constant_factor(hand, truth, [*call.inputs, upstream])
        or _permutation(hand, truth)
        or _few_components(comparison, hand, truth)
        or _approximation(comparison)
    )


def _approximation(comparison: Comparison) -> str:
    small = comparison.error <= APPROXIMATE * comparison.magnitude
    return "a small error: an approximation, as of a solver or a series? rtol= allows for it" if small else ""


def for_error(error: BaseException) -> str:
    """A likely cause of an exception raised by a backward; empty if unknown."""
    message = str(error)
    if "returned an invalid gradient" in message and "expected shape" in message:
        return "a gradient has the wrong shape: is a product transposed, or a sum over the examples missing?"
    if "modified by an inplace operation" in message:
        return "a saved Tensor was modified in place"
    return ""


def for_report(results: Sequence[Result]) -> Iterator[str]:
    """What the failed gradients have in common."""
    statuses = {check: {r.status for r in results if r.check == check} for check in ("value", "finite differences")}
    if "failed" in statuses["value"] and statuses["finite differences"] == {"passed"}:
        yield "the values differ, and the gradient agrees with the function's own: is it the same function?"
    failed = [result for result in results if result.check == "gradient" and result.status == "failed"]
    kinds = {"kink" if result.kind == "constant" else result.kind for result in failed}
    if len(kinds) != 1 or kinds == {"given"}:
        return
    labels = ", ".join(dict.fromkeys(result.variant for result in failed))
    meanings = {
        "kink": "wrong only at kinks or ties",
        "mask": "wrong only for full or empty rows of a mask",
        "mode": "wrong only in the other mode, training or evaluation",
        "index": "wrong only for repeated indices",
        "empty": "wrong only for an empty batch",
        "scaled": "wrong only for some magnitudes of the inputs, as when neurons are saturated",
        "size": "wrong only for some sizes of a dimension, such as the batch",
    }
    yield f"{meanings[kinds.pop()]}: {labels}"


def _upstream_misuse(name: str, hand: Tensor, call: Call, upstream: Tensor) -> str:
    try:
        doubled, reversed = (call.vjp(factor * upstream)[name].double() for factor in (2, -1))
    except Exception:  # the backward may reject other upstream gradients
        return ""
    if _close(doubled, 2 * hand) and _close(reversed, -hand):
        return ""
    if _close(doubled, hand) and _close(reversed, hand):
        return "ignores grad_output"
    if _close(reversed, hand):
        return "independent of the sign of grad_output: is its absolute value used?"
    if _close(doubled, hand):
        return "independent of the size of grad_output: is it normalised, or is only its sign used?"
    return "not linear in grad_output: is it clamped or changed?"


def _constant_factor(hand: Tensor, truth: Tensor, tensors: Sequence[Tensor]) -> str:
    if truth.count_nonzero() < 2:  # any single number is a multiple of another
        return ""
    factor = (hand * truth).sum().item() / (truth * truth).sum().item()
    if not _close(hand, factor * truth) or abs(factor - 1) < RTOL:
        return ""
    if abs(factor + 1) < RTOL:
        return "the sign is reversed"
    plain = f"off by the constant factor {factor:.6g}"
    for size in sorted({size for tensor in tensors for size in (*tensor.shape, tensor.numel()) if size > 1}):
        if abs(factor / size - 1) < RTOL:
            return f"{plain}, and {size} is a size here: summed instead of averaged?"
        if abs(factor * size - 1) < RTOL:
            return f"{plain}, and {size} is a size here: averaged instead of summed?"
    return plain


def _permutation(hand: Tensor, truth: Tensor) -> str:
    if _close(hand, truth):
        return ""
    if hand.dim() == 2 and hand.shape[0] == hand.shape[1] and _close(hand, truth.t()):
        return "transposed"
    if _close(hand.flatten().sort().values, truth.flatten().sort().values):
        return "the correct values in the wrong places"
    return ""


def _low_precision(comparison: Comparison, truth: Tensor) -> str:
    if not comparison.lost_to_rounding:
        return ""
    relative = comparison.error / max(truth.abs().max().item(), 1e-300)
    for name, unit in PRECISIONS.items():
        if relative < 4 * unit:
            return f"accurate to {name} only: is it computed in lower precision?"
    return "rounding errors: do large terms cancel?"


def _few_components(comparison: Comparison, hand: Tensor, truth: Tensor) -> str:
    wrong = (hand - truth).abs() > max(comparison.tolerance, RTOL * truth.abs().max().item())
    count = int(wrong.sum())
    if not 0 < count <= wrong.numel() // 2:
        return ""
    error = "has the wrong sign" if _close(hand[wrong], -truth[wrong]) else "is wrong"
    error, where = (error if count == 1 else error.replace("has", "have").replace("is", "are")), ""
    for dim in range(hand.dim()):
        indices = set(wrong.nonzero()[:, dim].tolist())
        if len(indices) == 1 and hand.shape[dim] > 1 and count > 1:
            where = f", all at index {indices.pop()} of dimension {dim}"
    return f"{count} of {wrong.numel()} components {error}{where}"


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= RTOL * max(a.abs().max().item(), b.abs().max().item()))
