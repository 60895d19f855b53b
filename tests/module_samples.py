"""Samples of modules, those of PyTorch's own tests (ModuleInfo) and others: constructor arguments and inputs."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from sample_call import SampleCall
from torch import Tensor

from bp_torch.catalogue.op_info import RandomTensors


@dataclass(frozen=True)
class ModuleSample:
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Any, ...] = ()
    input_options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, module_class: type[torch.nn.Module], training: bool, seed: int = 0) -> torch.nn.Module:
        """The module in float64, with random parameters: some start as ones, which would hide a missing factor."""
        torch.manual_seed(seed)
        with warnings.catch_warnings(action="ignore"):  # torch.nn.TransformerEncoder, if it cannot use nested Tensors
            module = module_class(*self.args, **self.options).to(torch.float64).train(training)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.5 * torch.randn_like(parameter)
        return module

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
    # with options, the second derivatives of PyTorch's LinearCrossEntropyLoss are 0
    chosen = [sample for sample in samples if sample.constructor_input.kwargs.get("options") is None]
    parts = [(sample.constructor_input, sample.forward_input) for sample in chosen]
    return [ModuleSample(tuple(make.args), make.kwargs, tuple(call.args), call.kwargs) for make, call in parts]


def of(inputs: Tensor | tuple[Tensor, ...], *args: Any, **options: Any) -> ModuleSample:
    """A sample that PyTorch lacks: inputs, of which the first requires a gradient, and the constructor's arguments."""
    first, *others = inputs if isinstance(inputs, tuple) else (inputs,)
    return ModuleSample(args, options, (first.clone().requires_grad_(), *others))


def of_indices(inputs: Tensor | tuple[Tensor, ...], *args: Any, **options: Any) -> ModuleSample:
    """A sample of integers, which require no gradient."""
    return ModuleSample(args, options, inputs if isinstance(inputs, tuple) else (inputs,))


_draw = RandomTensors(0)
_VECTORS, _IMAGES, _WEIGHTS = _draw(4, 3), _draw(2, 4, 6, 4), _draw(3).abs()
_WORDS = torch.tensor([[1, 0, 1], [3, 1, 0]])


def _decoder_layer() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.TransformerDecoderLayer(4, 2, 3, dropout=0.0)


_PAIR = (_VECTORS, _draw(4, 3))

SAMPLES = {
    "Flatten": [of(_IMAGES), of(_IMAGES, 0, 1)],
    "Unflatten": [of(_VECTORS, 1, (3, 1))],
    "Hardsigmoid": [of(4 * _VECTORS)],
    "RReLU": [of(_VECTORS), of(_VECTORS, 0.1, 0.6)],
    "Dropout": [of(_VECTORS), of(_VECTORS, 0.3)],
    "Dropout1d": [of(_draw(4, 3, 4), 0.3), of(_VECTORS)],
    "Dropout2d": [of(_IMAGES, 0.3)],
    "Dropout3d": [of(_draw(2, 3, 2, 2, 2), 0.3)],
    "AlphaDropout": [of(_VECTORS), of(_VECTORS, 0.3)],
    "FeatureAlphaDropout": [of(_IMAGES, 0.3)],
    "Unfold": [of(_IMAGES, (2, 3), dilation=(1, 2), padding=1, stride=2)],
    "Fold": [of(_draw(2, 8, 6), (3, 4), 2)],
    "PixelShuffle": [of(_IMAGES, 2)],
    "PixelUnshuffle": [of(_IMAGES, 2)],
    "Upsample": [of(_IMAGES, scale_factor=(1.7, 2.0), mode="bilinear", align_corners=True), of(_IMAGES, (7, 3))],
    "UpsamplingNearest2d": [of(_IMAGES, scale_factor=2)],
    "UpsamplingBilinear2d": [of(_IMAGES, (7, 3))],
    "TransformerDecoder": [
        of((_draw(3, 2, 4), _draw(2, 2, 4)), _decoder_layer(), 2),
    ],
    "Embedding": [
        of_indices(_WORDS, 4, 3, padding_idx=1),
        of_indices(_WORDS, 4, 2, max_norm=1.0),
    ],
    "EmbeddingBag": [
        of_indices(_WORDS, 4, 3),
        of_indices((_WORDS.flatten(), torch.tensor([0, 2, 2])), 4, 2, mode="sum", padding_idx=1),
        of_indices(_WORDS, 4, 2, mode="max", max_norm=1.0),
    ],
    "BCEWithLogitsLoss": [of((_VECTORS, _draw.probabilities(4, 3)), _WEIGHTS, pos_weight=1 + _WEIGHTS)],
    "BCELoss": [of((_draw.probabilities(4, 3), _draw.probabilities(4, 3)), _WEIGHTS)],
    "MultiMarginLoss": [of((_VECTORS, _draw.classes(4, below=3)), 2, 0.5, _WEIGHTS)],
    "MultiLabelSoftMarginLoss": [of((_VECTORS, _draw.probabilities(4, 3)), _WEIGHTS)],
    "CosineSimilarity": [of(_PAIR), of(_PAIR, 0, 0.1)],
    "PairwiseDistance": [of(_PAIR), of(_PAIR, 1.0, keepdim=True)],
    "TripletMarginLoss": [of((*_PAIR, _draw(4, 3))), of((*_PAIR, _draw(4, 3)), 2.0, 3, swap=True, reduction="none")],
    "TripletMarginWithDistanceLoss": [of((*_PAIR, _draw(4, 3))), of((*_PAIR, _draw(4, 3)), margin=2.0, swap=True)],
    "NLLLoss": [of((_VECTORS, _draw.classes(4, below=3)), _WEIGHTS, ignore_index=1)],
}


def samples(name: str, training: bool) -> list[ModuleSample]:
    """PyTorch's own samples, and those that it lacks."""
    found = pytorchs(name, training) + SAMPLES.get(name, [])
    assert found, f"{name}: PyTorch has no samples of it; add some to SAMPLES"
    return found


def modes_differ(name: str) -> bool:
    """Whether a module may differ between training and evaluation."""
    return name not in infos() or infos()[name].train_and_eval_differ
