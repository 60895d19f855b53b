"""Modules on the samples of PyTorch's own tests (ModuleInfo): constructor arguments and inputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from sample_call import SampleCall


@dataclass(frozen=True)
class ModuleSample:
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Any, ...] = ()
    input_options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, module_class: type[torch.nn.Module], training: bool) -> torch.nn.Module:
        """The module, in float64, always with the same parameters."""
        torch.manual_seed(0)
        return module_class(*self.args, **self.options).to(torch.float64).train(training)

    def call(self, function: Callable[..., Any], **options: Any) -> SampleCall:
        """The call of a module, or of another function of its inputs."""
        return SampleCall.make(function, self.inputs, {**self.input_options, **options})


@cache
def infos() -> dict[str, Any]:
    """PyTorch's ModuleInfos by name; imported here because the import takes seconds."""
    from torch.testing._internal.common_modules import module_db

    return {info.module_cls.__name__: info for info in module_db}


def pytorchs(name: str, training: bool) -> list[ModuleSample]:
    """PyTorch's own samples of a module; none if it has no tests of this module."""
    if name not in infos():
        return []
    info = infos()[name]
    torch.manual_seed(0)
    samples = info.module_inputs_func(info, "cpu", torch.float64, requires_grad=True, training=training)
    parts = [(sample.constructor_input, sample.forward_input) for sample in samples]
    return [ModuleSample(tuple(make.args), make.kwargs, tuple(call.args), call.kwargs) for make, call in parts]


def of(inputs: Any, *args: Any, **options: Any) -> ModuleSample:
    """A sample of a module that PyTorch has no samples of; the first input requires a gradient."""
    first, *others = inputs if isinstance(inputs, tuple) else (inputs,)
    return ModuleSample(args, options, (first.double().requires_grad_(), *others))
