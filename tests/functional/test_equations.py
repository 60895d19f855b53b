"""Every function of the catalogue, in every mode of PyTorch, against PyTorch's own."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pytest
import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException
from unconstrained import unconstrained

from bp_torch import functional
from bp_torch.catalogue import CATALOGUE, ErrorInput, OpInfo
from bp_torch.engine.tape import Tape
from bp_torch.gradients import check_gradients, compare
from bp_torch.gradients.call import Call, as_calls, vjp
from bp_torch.gradients.containers import float_tensors
from bp_torch.sample import Sample

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
entries = pytest.mark.parametrize("entry", CATALOGUE.values(), ids=list(CATALOGUE))
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*broadcast",
    "ignore:.*'mean' divides",
    "ignore:Using a target size",
    "ignore:There is a performance drop",  # of some samples
    "ignore:.*upsample` is deprecated",
)


def is_small(sample: Sample, largest: int = 100) -> bool:
    sizes = [arg.numel() for arg in sample.args if isinstance(arg, Tensor) and arg.is_floating_point()]
    return min(sizes) > 0 and sum(sizes) <= largest


def small_calls(entry: OpInfo, *, largest: int = 100) -> Iterator[Call]:
    """Samples for the slower checks: small, not empty, with a finite value."""
    for call in as_calls(entry.function, [sample for sample in entry.samples if is_small(sample, largest)]):
        value = call.of(entry.reference).value()
        if value.numel() and value.isfinite().all():
            yield call


def updates_buffers(call: Call) -> bool:
    """Whether a call changes its buffers, such as running statistics: vmap and checkpointing may not support it."""
    before = (call.args[position] for position in call.structure.buffers)
    return any(not torch.equal(old, new) for old, new in zip(before, call.updated_buffers().values(), strict=True))


def covering(samples: Sequence[Sample], form: Callable[[object], object]) -> list[Sample]:
    """A small subset of samples with every form of each argument, of each option, and of the set of options."""
    forms: dict[int, set[object]] = {
        number: {(name, form(value)) for name, value in [*enumerate(sample.args), *sample.options.items()]}
        | {(len(sample.args), *sample.options)}
        for number, sample in enumerate(samples)
    }
    missing, chosen = set().union(*forms.values()), []
    while missing:
        chosen.append(max(forms, key=lambda number: len(forms[number] & missing)))
        missing -= forms[chosen[-1]]
    return [samples[number] for number in sorted(chosen)]


def kind(value: object) -> object:
    return value.dtype if isinstance(value, Tensor) else type(value)


def irregular(*shape: int) -> Tensor:
    """Deterministic signed numbers for upstream gradients; vmap does not support torch.randn."""
    steps = torch.arange(math.prod(shape), dtype=torch.float64)
    return (1.3 * torch.cos(2.3 * steps + 0.5) + 0.4 * torch.sin(37.1 * steps)).reshape(shape)


def value_and_gradients(call: Call) -> list[Tensor]:
    value = call.value()
    return [value, *call.vjp(irregular(*value.shape).to(value.dtype)).values()]


def cost(call: Call) -> Callable[[Tensor], Tensor]:
    """A scalar function of the first input."""

    def function(x: Tensor) -> Tensor:
        output = call.at([x, *call.inputs[1:]]).output()
        return (output * irregular(*output.shape)).sum()

    return function


def rejects(entry: OpInfo, call: Call) -> bool:
    """Whether PyTorch does not support a dtype or number of a call; then the hand-written function must raise as well.

    Such as NotImplementedError for float16, or RuntimeError for a probability that is NaN.
    """
    try:
        call.of(entry.reference).value()
    except RuntimeError as error:
        with pytest.raises(type(error)):
            call.value()
        return True
    return False


def test_every_public_function_has_an_entry() -> None:
    assert sorted(CATALOGUE) == sorted(functional.__all__)


@entries
def test_every_check(entry: OpInfo) -> None:
    """All checks of the gradient checker, which tests/gradients tests.

    The checker varies numbers, sizes and layouts, so samples that differ only in these are left out, and those that
    differ only in the value of an option: test_pytorch_samples.py has PyTorch's samples of these, in every mode.
    """
    samples, elsewhere = covering(entry.samples, kind), {"torch.compile": "test_compiles_into_one_graph"}
    report = check_gradients(entry.function, samples, reference=entry.reference, skip=elsewhere)
    assert report.passed, str(report)
    assert {result.status for result in report.results} <= {"passed", "unsupported", "left out"}
    unsupported = [result for result in report.results if result.status == "unsupported"]
    if any(updates_buffers(call) for call in as_calls(entry.function, samples)):
        unsupported = [result for result in unsupported if result.check not in ("vmap", "checkpoint")]
    assert {result.variant for result in unsupported} <= {"as given, reentrant checkpoint"}  # which takes no options
    assert {"gradient", "layouts", "double backward", "forward mode", "vmap"} <= {r.check for r in report.results}


@entries
def test_every_sample_in_every_dtype(entry: OpInfo) -> None:
    """Shapes and dtypes are PyTorch's, and errors against float64 are no larger than PyTorch's own."""
    for number, sample in enumerate(as_calls(entry.function, entry.samples)):
        for dtype in DTYPES:
            call = sample.to(dtype)
            if rejects(entry, call):
                continue
            hand, builtin = (value_and_gradients(each) for each in (call, call.of(entry.reference)))
            truth = value_and_gradients(call.to(torch.float64).of(entry.reference))
            assert [(x.shape, x.dtype) for x in hand] == [(x.shape, x.dtype) for x in builtin]
            for name, *three in zip(("value", *call.by_name), hand, builtin, truth, strict=True):
                comparison = compare(f"sample {number} in {dtype}: {name}", *three)
                assert comparison.error <= comparison.tolerance, str(comparison)


@entries
def test_no_graph_if_no_gradient_is_needed(entry: OpInfo) -> None:
    for call in as_calls(entry.function, entry.samples):
        assert not call.output().requires_grad
        with torch.no_grad():
            needing = call.at([x.requires_grad_() for x in call.clone().inputs])
            assert needing.output().grad_fn is None


@entries
@pytest.mark.parametrize("autocast", [False, True])
def test_no_differentiable_operation_outside_of_a_function(entry: OpInfo, autocast: bool) -> None:
    """A tape raises if a call receives the output of PyTorch's own differentiable operations."""
    for sample in as_calls(entry.function, entry.samples):
        for dtype in (torch.float64, torch.bfloat16):
            call = unconstrained(sample.to(dtype)).clone()
            call = call.at([x.requires_grad_() for x in call.inputs])
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast), Tape():
                if rejects(entry, call):
                    continue
                output = call.result()
            assert all(part.grad_fn is None for part in float_tensors(output))


@entries
def test_pytorchs_own_gradcheck(entry: OpInfo) -> None:
    """A second opinion to this project's checker. gradcheck needs moderate numbers away from kinks."""
    checked = 0
    for call in small_calls(entry):
        if all(x.abs().max() < 10 and x.abs().min() > 1e-3 for x in call.inputs):
            leaves = [x.clone().requires_grad_() for x in call.inputs]
            assert torch.autograd.gradcheck(lambda *xs, call=call: call.at(xs).output(), leaves, fast_mode=True)
            checked += 1
    assert checked


@entries
def test_jacobian_of_jacobian(entry: OpInfo) -> None:
    """The builtin one by reverse mode only: PyTorch's vmap does not support its rrelu, and jacfwd calls it."""
    call = next(small_calls(entry))
    jacrev, jacfwd = torch.func.jacrev, partial(torch.func.jacfwd, randomness="same")
    builtin = jacrev(jacrev(cost(call.of(entry.reference))))(call.inputs[0])
    for outer in (jacrev, jacfwd):
        hand = outer(jacrev(cost(call)))(call.inputs[0])
        torch.testing.assert_close(hand, builtin, rtol=1e-10, atol=1e-10)


@entries
def test_per_example_gradients(entry: OpInfo) -> None:
    for call in small_calls(entry):
        if updates_buffers(call):
            continue
        first = call.inputs[0]
        batch = torch.stack([first, first * 0.5 + 0.1, -first])
        leaves = [x.clone().requires_grad_() for x in batch]
        hand = torch.func.vmap(torch.func.grad(cost(call)), randomness="same")(batch)  # of the sample's seed
        each = [torch.autograd.grad(cost(call.of(entry.reference))(x), x)[0] for x in leaves]
        torch.testing.assert_close(hand, torch.stack(each), rtol=1e-10, atol=1e-10, equal_nan=True)


@entries
def test_compiles_into_one_graph(entry: OpInfo) -> None:
    """The first call with aot_eager, which traces the backward too; the others with the eager backend."""
    torch.compiler.reset()  # entries share code, and PyTorch recompiles a function at most eight times
    calls = as_calls(entry.function, covering([s for s in entry.samples if is_small(s)], kind))
    for number, call in enumerate(map(unconstrained, calls)):
        backend = "eager" if number else "aot_eager"
        compiled, builtin = (
            call.of(torch.compile(f, fullgraph=True, backend=backend, dynamic=False))
            for f in (entry.function, entry.reference)
        )
        try:
            output, leaves = compiled.run()
        except TorchDynamoException:  # the sizes of a packed sequence are the numbers in a Tensor
            with pytest.raises(TorchDynamoException):
                builtin.run()
            continue
        gradients = vjp(output, leaves, irregular(*output.shape))
        torch.testing.assert_close([output.detach(), *gradients], value_and_gradients(call), equal_nan=True)


def test_compiles_if_no_gradient_is_needed() -> None:
    @torch.compile(fullgraph=True, backend="aot_eager")
    def cost(x: Tensor, t: Tensor) -> Tensor:
        y = functional.elu(functional.flatten(x, 1), 0.5)
        return functional.mse_loss(y, y) + functional.smooth_l1_loss(y, y) + functional.cross_entropy(y, t)

    x, t = torch.randn(2, 3, 2), torch.tensor([0, 5])
    torch.testing.assert_close(cost(x, t), torch.nn.functional.cross_entropy(functional.elu(x.flatten(1), 0.5), t))


@entries
def test_autocast_as_pytorch_does(entry: OpInfo) -> None:
    for sample in small_calls(entry):
        for dtype in (torch.float32, torch.bfloat16, torch.float64):
            call = sample.to(dtype)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                if rejects(entry, call):
                    continue
                hand, builtin = (value_and_gradients(each) for each in (call, call.of(entry.reference)))
            truth = value_and_gradients(call.to(torch.float64).of(entry.reference))
            for ours, theirs, true in zip(hand, builtin, truth, strict=True):
                assert ours.dtype == theirs.dtype
                allowed = 8 * torch.finfo(torch.bfloat16).eps
                torch.testing.assert_close(ours.double(), true, rtol=allowed, atol=allowed * true.abs().max().item())


@pytest.mark.parametrize(
    ("entry", "call"),
    [pytest.param(e, call, id=f"{e.name}-{i}") for e in CATALOGUE.values() for i, call in enumerate(e.error_inputs)],
)
def test_error_inputs_raise_as_in_pytorch(entry: OpInfo, call: ErrorInput) -> None:
    with pytest.raises(call.error_type) as caught:
        entry.function(*call.args, **call.options)
    assert re.search(call.error_regex, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)
    if isinstance(call.args[0], Tensor) and call.args[0].is_complex():
        return  # only bp_torch rejects complex numbers
    with pytest.raises(call.error_type):
        entry.reference(*call.args, **call.options)


@entries
def test_slopes_at_kinks_are_pytorchs(entry: OpInfo) -> None:
    for kink in entry.kinks:
        for function in (entry.function, entry.reference):
            (call,) = as_calls(function, [Sample(kink.args, kink.options)])
            slope, *_ = call.vjp(torch.ones_like(call.value())).values()
            assert slope.item() == kink.slope


@entries
def test_samples_are_in_the_domain(entry: OpInfo) -> None:
    for sample in entry.samples:
        for position, arg in enumerate(sample.args):
            if isinstance(arg, Tensor) and arg.numel():
                domain = entry.domain_of(position)
                assert domain.low <= arg.min() <= arg.max() <= domain.high


@entries
def test_non_finite_inputs_as_pytorch_does(entry: OpInfo) -> None:
    call = next(call for call in small_calls(entry) if call.inputs[0].dim() > 1 and len(call.inputs[0]) > 1)
    for special in (torch.inf, -torch.inf, torch.nan):
        input = call.inputs[0].clone()
        input[0].view(-1)[0] = special
        non_finite = call.at([input, *call.inputs[1:]])
        if rejects(entry, non_finite):
            continue
        value, gradient, *_ = value_and_gradients(non_finite)
        builtin, builtin_gradient, *_ = value_and_gradients(non_finite.of(entry.reference))
        torch.testing.assert_close(value, builtin, equal_nan=True)
        torch.testing.assert_close(gradient[1:], builtin_gradient[1:], equal_nan=True)
