"""Every module on the samples of PyTorch's own tests (ModuleInfo), in every mode.

A module is called as a function of its inputs, its parameters and its buffers.
"""

import inspect
from typing import Any

import pytest
import torch
from mode_checks import Pair, assert_same_in_every_mode
from module_samples import ModuleSample, infos, pytorchs
from sample_call import SampleCall

import bp_torch.nn


@pytest.mark.parametrize(
    "name", [name for name, value in vars(bp_torch.nn).items() if inspect.isclass(value) and hasattr(torch.nn, name)]
)
def test_in_every_mode(name: str, exhaustive: bool) -> None:
    pytest.importorskip("expecttest", reason="PyTorch's own samples need expecttest")
    for training in (True, False) if name in infos() and infos()[name].train_and_eval_differ else (True,):
        kinds = getattr(bp_torch.nn, name), getattr(torch.nn, name)
        pairs = [Pair(*(called(kind, s, training) for kind in kinds)) for s in pytorchs(name, training)]
        if pairs:
            assert_same_in_every_mode(name, pairs, exhaustive, few=2)


def called(kind: type[torch.nn.Module], sample: ModuleSample, training: bool) -> SampleCall:
    module = sample.build(kind, training)

    def function(*inputs: Any, parameters: dict[str, Any], **options: Any) -> Any:
        return torch.func.functional_call(module, parameters, inputs, options)

    return sample.call(function, parameters={**dict(module.named_parameters()), **dict(module.named_buffers())})
