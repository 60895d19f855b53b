"""The norms of all per-example gradients, by this project and by its peers."""

import copy
import warnings
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.testing import assert_close

from bp_torch.benchmark.measuring import Row, Workload, time_interleaved
from bp_torch.benchmark.steps import batch, builtin_cost
from bp_torch.engine import Backprop
from bp_torch.functional import squared_error
from bp_torch.inspection import per_example_norms
from bp_torch.nn import as_builtin, mlp

SIZES = (784, 16, 16, 10)
Norms = dict[str, Tensor]


def norm_times(examples: int, rounds: int) -> list[Row]:
    """Times in units of one gradient over the same examples; BackPACK's where it is installed (extra `peers`)."""
    torch.manual_seed(0)
    model = mlp(SIZES)
    inputs, targets = batch(examples, SIZES)
    driver = Backprop(model, squared_error)
    ours = per_example_norms(model, squared_error, inputs[:100], targets[:100])
    peers: dict[str, Workload] = {
        "one gradient, engine": lambda: driver.gradients(inputs, targets),
        "norms": lambda: per_example_norms(model, squared_error, inputs, targets),
        "norms, vmap(grad)": lambda: by_vmap(model, inputs, targets),
    }
    assert_close(by_vmap(model, inputs[:100], targets[:100]), ours, rtol=1e-4, atol=1e-6)
    if find_spec("backpack"):
        peers["norms, BackPACK"] = lambda: by_backpack(model, inputs, targets)
        assert_close(by_backpack(model, inputs[:100], targets[:100]), ours, rtol=1e-4, atol=1e-6)
    return time_interleaved(peers, "one gradient, engine", rounds=rounds)


def by_vmap(model: torch.nn.Sequential, inputs: Tensor, targets: Tensor) -> Norms:
    """`torch.func.vmap` of `torch.func.grad`, the norm taken within; a thousand at a time, which is quickest here."""
    builtin = as_builtin(model)
    parameters = {name: parameter.detach() for name, parameter in builtin.named_parameters()}

    def norms(input: Tensor, target: Tensor) -> Norms:
        def cost(parameters: Norms) -> Tensor:
            return builtin_cost(
                torch.func.functional_call(builtin, parameters, (input.unsqueeze(0),)), target.unsqueeze(0)
            )

        return {name: gradient.norm() for name, gradient in torch.func.grad(cost)(parameters).items()}

    return torch.func.vmap(norms, chunk_size=1000)(inputs, targets)


def by_backpack(model: torch.nn.Sequential, inputs: Tensor, targets: Tensor) -> Norms:
    """BackPACK's extension for squared norms."""
    from backpack import backpack, extend  # an extra
    from backpack.extensions import BatchL2Grad

    builtin = extend(copy.deepcopy(as_builtin(model)))
    total = extend(torch.nn.MSELoss(reduction="sum"))
    with warnings.catch_warnings(), backpack(BatchL2Grad()):
        warnings.simplefilter("ignore")  # PyTorch's, of hooks on a network whose inputs need no gradient
        total(builtin(inputs), targets).backward()
    return {name: parameter.batch_l2.sqrt() for name, parameter in builtin.named_parameters()}
