"""Benchmarks of a step, of each function and of per-example norms, with all peers on the same numbers."""

import copy
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.testing import assert_close

from benchmarks.measuring import Row, Workload, peak_bytes, time_interleaved
from bp_torch.catalogue import CATALOGUE, OpInfo
from bp_torch.engine import Backprop
from bp_torch.functional import squared_error
from bp_torch.gradients.axes import axes_of, resized
from bp_torch.gradients.call import Call, as_calls
from bp_torch.inspection import per_example_norms
from bp_torch.nn import as_builtin, mlp

NETWORKS = ((784, 16, 16, 10), (784, 128, 64, 10), (784, 1024, 1024, 10))
BATCHES = (10, 100, 1000)
RATE = 0.01

builtin_cost = CATALOGUE["squared_error"].reference
Cost = Callable[[Tensor, Tensor], Tensor]
Norms = dict[str, Tensor]


def engine(model: torch.nn.Sequential, inputs: Tensor, targets: Tensor) -> Workload:
    """This project's engine."""
    backprop = Backprop(model, squared_error)
    return lambda: backprop.sgd_step(inputs, targets, RATE)


def functions(
    model: torch.nn.Module, inputs: Tensor, targets: Tensor, cost: Cost = squared_error, **options: bool
) -> Workload:
    """The model's layers with autograd and one of torch.optim.SGD's implementations."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, **options)

    def step() -> None:
        optimizer.zero_grad()
        cost(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def eager(model: torch.nn.Module, inputs: Tensor, targets: Tensor, **options: bool) -> Workload:
    """PyTorch's layers with autograd and torch.optim.SGD."""
    return functions(as_builtin(model), inputs, targets, builtin_cost, **options)


def compiled(model: torch.nn.Sequential, inputs: Tensor, targets: Tensor) -> Workload:
    """The whole step, gradient and update, in one graph of torch.compile, in its fastest form.

    It takes a list of parameters: modules and names would need guards at every step.
    """
    parameters = [parameter.detach() for parameter in model.parameters()]

    def cost(parameters: list[Tensor]) -> Tensor:
        activations = inputs
        for weight, bias in zip(parameters[::2], parameters[1::2], strict=True):
            activations = torch.sigmoid(torch.nn.functional.linear(activations, weight, bias))
        return builtin_cost(activations, targets)

    @torch.compile(fullgraph=True)
    def step(parameters: list[Tensor]) -> None:
        for parameter, gradient in zip(parameters, torch.func.grad(cost)(parameters), strict=True):
            parameter.sub_(RATE * gradient)

    return torch.no_grad()(lambda: step(parameters))


def products(model: torch.nn.Sequential, inputs: Tensor, targets: Tensor) -> Workload:
    """The lower bound: only the matrix products of a step, written as in `bp_torch.functional.linear`."""
    weights = [p.detach() for p in model.parameters() if p.dim() == 2]
    activations = [inputs, *(torch.rand(len(inputs), len(weight)) for weight in weights)]

    def step() -> None:
        for number, weight in enumerate(weights):
            activations[number] @ weight.t()
        for number in reversed(range(len(weights))):
            delta = activations[number + 1]
            delta.t() @ activations[number]
            if number:
                delta @ weights[number]

    return step


PEERS: Mapping[str, Callable[[torch.nn.Sequential, Tensor, Tensor], Workload]] = {
    "engine": engine,
    "functions": functions,
    "eager": eager,
    "eager, foreach": partial(eager, foreach=True),
    "eager, fused": partial(eager, fused=True),
    "torch.compile": compiled,
    "products": products,
}


def batch(examples: int, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Random pixels and one-hot targets."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(examples, sizes[0], generator=generator)
    return inputs, torch.eye(sizes[-1])[torch.randint(sizes[-1], (examples,), generator=generator)]


def build_peers(sizes: tuple[int, ...], examples: int) -> dict[str, tuple[torch.nn.Sequential, Workload]]:
    """Each peer and its own copy of the same network."""
    torch.manual_seed(0)
    first = mlp(sizes)
    inputs, targets = batch(examples, sizes)
    copies = {name: copy.deepcopy(first) for name in PEERS}
    return {name: (model, PEERS[name](model, inputs, targets)) for name, model in copies.items()}


def assert_same_step(peers: Mapping[str, tuple[torch.nn.Sequential, Workload]]) -> None:
    """Raise AssertionError if the parameters of two peers differ after a step."""
    for _, work in peers.values():
        work()
    expected = dict(peers["eager"][0].named_parameters())
    for name, (model, _) in peers.items():
        if name != "products":
            assert_close(dict(model.named_parameters()), expected, msg=(f"{name}: " + "{}").format)


def step_times(sizes: tuple[int, ...], examples: int, rounds: int) -> list[Row]:
    """Time a step, with ratios to eager PyTorch and to the matrix products alone."""
    peers = build_peers(sizes, examples)
    assert_same_step(peers)
    return time_interleaved({name: work for name, (_, work) in peers.items()}, "eager", "products", rounds=rounds)


def step_memory(sizes: tuple[int, ...], examples: int) -> list[Row]:
    """Peak memory of a step above parameters and data, in KiB and as ratio to eager PyTorch."""
    peaks = {}
    for name, (model, work) in build_peers(sizes, examples).items():
        work()
        model.zero_grad()  # gradients kept from one step to the next count as memory of the step
        peaks[name] = peak_bytes(work)
    return [
        {"peer": name, "KiB": round(peak / 1024), "/ eager": round(peak / peaks["eager"], 2)}
        for name, peak in peaks.items()
        if name != "products"
    ]


def function_times(rounds: int) -> list[Row]:
    """Time each function of the catalogue and PyTorch's: on its first matrix, or smallest Tensor with more dimensions.

    The sizes are set to 100 for a matrix, and so that the number of components is about the same otherwise.
    """
    rows = []
    for entry in CATALOGUE.values():
        large = _large_call(entry)
        peers = {"builtin": _forward_backward(large.of(entry.reference)), entry.name: _forward_backward(large)}
        _, row = time_interleaved(peers, "builtin", rounds=rounds)
        rows.append(row)
    return rows


def _large_call(entry: OpInfo) -> Call:
    tensors = [sample for sample in entry.samples if isinstance(sample.args[0], Tensor) and sample.args[0].dim() > 1]
    first = min(tensors, key=lambda sample: sample.args[0].dim())
    (call,) = as_calls(entry.function, [first])
    size = round(10_000 ** (1 / first.args[0].dim()))
    sizes = {axis: size for axis in axes_of(call)}
    large = resized(call.to(torch.float32), sizes, torch.Generator().manual_seed(0))
    assert large is not None
    return large


def _forward_backward(call: Call) -> Workload:
    leaves = [x.requires_grad_() for x in call.inputs]
    upstream = torch.ones_like(call.output())
    return lambda: torch.autograd.grad(call.output(), leaves, upstream)


def norm_times(examples: int, rounds: int) -> list[Row]:
    """Time the norms of all per-example gradients, with ratios to one gradient over the same examples.

    BackPACK is included if it is installed (extra `peers`).
    """
    torch.manual_seed(0)
    model = mlp(NETWORKS[0])
    inputs, targets = batch(examples, NETWORKS[0])
    ours = partial(per_example_norms, model, squared_error)
    others: dict[str, Callable[..., object]] = {"norms, vmap(grad)": partial(by_vmap, model, builtin_cost, 1000)}
    if find_spec("backpack"):
        others["norms, BackPACK"] = partial(by_backpack, model)
    for other in others.values():
        assert_close(other(inputs[:100], targets[:100]), ours(inputs[:100], targets[:100]), rtol=1e-4, atol=1e-6)
    engine = Backprop(model, squared_error).gradients
    peers: dict[str, Callable[..., object]] = {"one gradient, engine": engine, "norms": ours, **others}
    workloads = {name: partial(peer, inputs, targets) for name, peer in peers.items()}
    return time_interleaved(workloads, "one gradient, engine", rounds=rounds)


def by_vmap(
    model: torch.nn.Sequential, cost: Callable[..., Tensor], chunk_size: int, inputs: Tensor, targets: Tensor
) -> Norms:
    """`torch.func.vmap` of `torch.func.grad` and norm; dense networks are fastest with chunks of 1,000 examples."""
    builtin = as_builtin(model)
    parameters = {name: parameter.detach() for name, parameter in builtin.named_parameters()}

    def norms(input: Tensor, target: Tensor) -> Norms:
        def cost_of(parameters: Norms) -> Tensor:
            output = torch.func.functional_call(builtin, parameters, (input.unsqueeze(0),))
            return cost(output, target.unsqueeze(0))

        return {name: gradient.norm() for name, gradient in torch.func.grad(cost_of)(parameters).items()}

    return torch.func.vmap(norms, chunk_size=chunk_size)(inputs, targets)


def by_backpack(model: torch.nn.Sequential, inputs: Tensor, targets: Tensor) -> Norms:
    """Norms by BackPACK's extension for squared norms."""
    from backpack import backpack, extend  # from the extra `peers`
    from backpack.extensions import BatchL2Grad

    builtin = extend(copy.deepcopy(as_builtin(model)))
    total = extend(torch.nn.MSELoss(reduction="sum"))
    # PyTorch warns about hooks on modules whose inputs need no gradient
    with warnings.catch_warnings(action="ignore"), backpack(BatchL2Grad()):
        total(builtin(inputs), targets).backward()
    return {name: parameter.batch_l2.sqrt() for name, parameter in builtin.named_parameters()}
