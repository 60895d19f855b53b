"""Every module on the samples of PyTorch's own tests (ModuleInfo), in every mode.

A module is called as a function of its inputs, its parameters and its buffers.
"""

import inspect
from typing import Any

import pytest
import torch
from mode_checks import Pair, assert_same, every_case, some_cases
from module_samples import ModuleSample, modes_differ, samples
from sample_call import SampleCall

import bp_torch.nn

LESS_EXACT = {"Hardsigmoid", "BCELoss"}  # of PyTorch's, one rounds 1/6 to float32, one a second derivative to 10⁻¹²
MODULES = [
    name
    for name, value in vars(bp_torch.nn).items()
    if inspect.isclass(value) and hasattr(torch.nn, name) and name not in LESS_EXACT
]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # some samples broadcast, for instance


@pytest.mark.parametrize("name", MODULES)
def test_in_every_mode(name: str, exhaustive: bool) -> None:
    kinds = getattr(bp_torch.nn, name), getattr(torch.nn, name)
    for training in (True, False) if modes_differ(name) else (True,):
        pairs = [Pair(*(called(kind, sample, training) for kind in kinds)) for sample in samples(name, training)]
        assert_same(name, every_case(pairs) if exhaustive else some_cases(pairs, few=1))


def called(kind: type[torch.nn.Module], sample: ModuleSample, training: bool) -> SampleCall:
    module = sample.build(kind, training)

    def function(*inputs: Any, parameters: dict[str, Any], **options: Any) -> Any:
        return torch.func.functional_call(module, parameters, inputs, options)

    return sample.call(function, parameters={**dict(module.named_parameters()), **dict(module.named_buffers())})
