"""Hints: patterns of common mistakes, recognised in a wrong gradient."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from bp_torch.gradients.call import Call
from bp_torch.gradients.comparison import Comparison
from bp_torch.gradients.report import Result

ALIKE = 1e-6
"""Relative difference up to which two gradients count as the same."""
PRECISIONS = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def of_gradient(comparison: Comparison, hand: Tensor, truth: Tensor, call: Call, upstream: Tensor) -> str:
    """The first pattern that fits a wrong gradient beside the right one in float64, or nothing."""
    hand, truth = hand.detach().double(), truth.detach()
    if not hand.isfinite().all():
        return "not finite where the gradient is: an overflow, or 0/0 in a branch that was not taken"
    if not hand.any():
        return "no gradient arrives at this input"
    return (
        _of_precision(comparison, truth)
        or _of_upstream(comparison.name, hand, call, upstream)
        or _of_factor(hand, truth, [*call.inputs, upstream])
        or _of_order(hand, truth)
        or _of_few(comparison, hand, truth)
    )


def of_error(error: BaseException) -> str:
    """What an exception from a backward says."""
    message = str(error)
    if "returned an invalid gradient" in message and "expected shape" in message:
        return "a gradient has the wrong shape: is a product transposed, or a sum over the examples missing?"
    if "modified by an inplace operation" in message:
        return "a saved Tensor was written into"
    return ""


def of_report(results: Sequence[Result]) -> Iterator[str]:
    """What the failures among all gradients have in common."""
    failed = [result for result in results if result.check == "gradient" and result.status == "failed"]
    kinds = {"kink" if result.kind == "constant" else result.kind for result in failed}
    if len(kinds) != 1 or kinds == {"given"}:
        return
    labels = ", ".join(dict.fromkeys(result.variant for result in failed))
    means = {
        "kink": "wrong only at a kink, or where numbers are equal",
        "scaled": "wrong only for some sizes of numbers, as when neurons are saturated",
        "size": "wrong only for some sizes of a dimension, such as the batch",
    }
    yield f"{means[kinds.pop()]}: {labels}"


def _of_upstream(name: str, hand: Tensor, call: Call, upstream: Tensor) -> str:
    try:
        doubled, reversed = (call.pull(factor * upstream)[name].double() for factor in (2, -1))
    except Exception:  # of a backward that takes no other upstream gradient
        return ""
    if _alike(doubled, 2 * hand) and _alike(reversed, -hand):
        return ""
    if _alike(doubled, hand) and _alike(reversed, hand):
        return "ignores grad_output"
    if _alike(reversed, hand):
        return "takes the absolute value of grad_output, or otherwise loses its sign"
    if _alike(doubled, hand):
        return "loses the size of grad_output: is it normalised, or is only its sign used?"
    return "not linear in grad_output: is it clamped or changed?"


def _of_factor(hand: Tensor, truth: Tensor, here: Sequence[Tensor]) -> str:
    if truth.count_nonzero() < 2:  # any number is a multiple of another
        return ""
    factor = (hand * truth).sum().item() / (truth * truth).sum().item()
    if not _alike(hand, factor * truth) or abs(factor - 1) < ALIKE:
        return ""
    if abs(factor + 1) < ALIKE:
        return "the sign is reversed"
    plain = f"off by the constant factor {factor:.6g}"
    for size in sorted({size for tensor in here for size in (*tensor.shape, tensor.numel()) if size > 1}):
        if abs(factor / size - 1) < ALIKE:
            return f"{plain}, and {size} is a size here: summed instead of averaged?"
        if abs(factor * size - 1) < ALIKE:
            return f"{plain}, and {size} is a size here: averaged instead of summed?"
    return plain


def _of_order(hand: Tensor, truth: Tensor) -> str:
    if _alike(hand, truth):
        return ""
    if hand.dim() == 2 and hand.shape[0] == hand.shape[1] and _alike(hand, truth.t()):
        return "transposed"
    if _alike(hand.flatten().sort().values, truth.flatten().sort().values):
        return "the right numbers in wrong places"
    return ""


def _of_precision(comparison: Comparison, truth: Tensor) -> str:
    if not comparison.lost_to_rounding:
        return ""
    relative = comparison.error / max(truth.abs().max().item(), 1e-300)
    for name, unit in PRECISIONS.items():
        if relative < 4 * unit:
            return f"as exact as {name} would be: computed in reduced precision inside?"
    return "rounding errors: do large terms cancel?"


def _of_few(comparison: Comparison, hand: Tensor, truth: Tensor) -> str:
    wrong = (hand - truth).abs() > max(comparison.tolerance, ALIKE * truth.abs().max().item())
    count = int(wrong.sum())
    if not 0 < count <= wrong.numel() // 2:
        return ""
    what = "has the wrong sign" if _alike(hand[wrong], -truth[wrong]) else "is wrong"
    what, where = (what if count == 1 else what.replace("has", "have").replace("is", "are")), ""
    for dim in range(hand.dim()):
        places = set(wrong.nonzero()[:, dim].tolist())
        if len(places) == 1 and hand.shape[dim] > 1 and count > 1:
            where = f", all at index {places.pop()} of dimension {dim}"
    return f"{count} of {wrong.numel()} components {what}{where}"


def _alike(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= ALIKE * max(a.abs().max().item(), b.abs().max().item()))
