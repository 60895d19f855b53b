"""The files that the Backprop tab reads: one of the network, and a frame for each recorded step.

Both are safetensors files, https://huggingface.co/docs/safetensors: named arrays, and a JSON header. In its
"__metadata__", under "frame" or "network", is a JSON object with everything else. Wide layers and large mini-batches
are cut to what can be drawn; sums are over all neurons.

∂C/∂y, δ = ∂C/∂z, ∂C/∂w and ∂C/∂b are gradients; a nudge is minus a gradient. One example's nudge of a weighted sum and
its bias is −δ = f′(z) · nudge of y, that of a weight −δⱼ xₖ.

A network has the arrays "inputs" and "labels", of the probes. A frame has, of P probes and then N examples of its
mini-batch, "inputs", "labels" and "costs", and for layer l = 0, 1, …:

| array | shape | what |
|---|---|---|
| l.weight, l.bias | (out, in), (out,) | before the step |
| l.weight.gradient, l.bias.gradient | (out, in), (out,) | if trainable: the step adds −learning rate times these |
| l.activations, l.slopes, l.nudges | (P + N, out) | y, f′(z) and −∂Cₙ/∂y |
| pixel_nudges | (P + N, in) | −∂Cₙ/∂x, if layer 0 is cut: 128 + 127 times its ratio to the example's largest |

Inputs are uint8 from "low" to "high", so that pixels are exact, and compressed by zlib: (bytes,). Those of a frame are
the mini-batch's. pixel_nudges are uint8, labels int32, the rest float32. "names" are the names of each layer's weight
and bias in the model; the part before the last dot is the layer's name.
"""

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor

from bp_torch.dashboard.tags import AGREEMENT_FIGURES
from bp_torch.inspection import LayerState
from bp_torch.training.logging.events import FrameEvent, NetworkEvent

FORMAT: Final = 1  # version of the arrays and the metadata
MAX_NEURONS: Final = 24  # of a layer in a file
MAX_INPUTS: Final = 1024
MAX_EXAMPLES: Final = 100  # of a mini-batch in a file
_COMPARISON_FIELDS: Final = "name", "passed", *AGREEMENT_FIGURES


def unsupported_reason(network: NetworkEvent) -> str | None:
    """Why frames of a network cannot be drawn; None if they can."""
    if network.sizes[0] > MAX_INPUTS:
        return f"it has {network.sizes[0]:,} inputs, and at most {MAX_INPUTS:,} can be drawn"
    return network.refusal


def network_file(event: NetworkEvent) -> bytes:
    """The file of what all frames of a run share, or of the reason why there are none."""
    arrays = {"labels": _to_numpy(event.labels)}
    scale: Mapping[str, float] = {}
    if (refusal := unsupported_reason(event)) is None:
        arrays["inputs"], scale = _quantize(event.inputs)
    metadata = {
        "format": FORMAT,
        **{name: getattr(event, name) for name in ("steps", "cost", "sizes", "functions", "names")},
        "kept": [event.sizes[0], *(min(size, MAX_NEURONS) for size in event.sizes[1:])],
        "refusal": refusal,
        **scale,
    }
    return save(arrays, {"network": _json(metadata)})


def frame_file(event: FrameEvent, network: NetworkEvent) -> bytes:
    """The file of one frame. The inputs of the probes are in the network's file."""
    kept = len(network.labels) + min(len(event.inputs), MAX_EXAMPLES)
    pixels, scale = _quantize(event.inputs[:MAX_EXAMPLES])
    labels = torch.cat([network.labels, event.labels])[:kept]
    arrays = {"labels": labels, "costs": event.costs[:kept]}
    for index, layer in enumerate(event.layers):
        arrays |= {f"{index}.{kind}": array for kind, array in _of_layer(layer, event.gradients, kept, index == 0)}
    metadata = {
        "step": event.step,
        "examples": len(event.inputs),
        "cost": mini_batch_cost(event, network),
        "learning_rate": event.learning_rate,
        "comparisons": [{name: getattr(c, name) for name in _COMPARISON_FIELDS} for c in event.comparisons],
        **scale,
    }
    plain = {name: _to_numpy(array) for name, array in arrays.items()}
    return save({"inputs": pixels, **_pixel_nudges(event.layers[0], kept), **plain}, {"frame": _json(metadata)})


def mini_batch_cost(event: FrameEvent, network: NetworkEvent) -> float:
    """The mean cost of the mini-batch."""
    return event.costs[len(network.labels) :].mean().item()


def _of_layer(
    layer: LayerState, gradients: Mapping[str, Tensor], examples: int, first: bool
) -> Iterator[tuple[str, Tensor]]:
    """The arrays of a layer, cut to MAX_NEURONS neurons and previous neurons."""
    for kind, name, parameter in zip(("weight", "bias"), layer.names, (layer.weight, layer.bias), strict=True):
        if parameter is not None:
            yield kind, _cut(parameter, first)
        if name is not None:
            yield f"{kind}.gradient", _cut(gradients[name], first)
    for kind in ("activations", "slopes", "nudges"):
        yield kind, getattr(layer, kind)[:examples, :MAX_NEURONS]


def _pixel_nudges(first: LayerState, examples: int) -> Mapping[str, np.ndarray]:
    """−∂Cₙ/∂x = −δ W, the nudges of the pixels, if the file has not all neurons."""
    if first.weight.shape[0] <= MAX_NEURONS:
        return {}
    nudges = (first.slopes[:examples] * first.nudges[:examples]) @ first.weight
    shades = 128 + 127 * nudges / nudges.abs().amax(1, keepdim=True).clamp_min(torch.finfo(nudges.dtype).tiny)
    return {"pixel_nudges": shades.nan_to_num(128).round().detach().to("cpu", torch.uint8).numpy()}


def _cut(parameter: Tensor, first: bool) -> Tensor:
    return parameter[:MAX_NEURONS] if first or parameter.dim() == 1 else parameter[:MAX_NEURONS, :MAX_NEURONS]


def _quantize(inputs: Tensor) -> tuple[np.ndarray, Mapping[str, float]]:
    """Inputs in 256 shades, compressed, and the lowest and the highest input."""
    low, high = (x.item() for x in inputs.aminmax())
    shades = ((inputs - low) * (255 / (high - low) if high > low else 0.0)).round().to(torch.uint8)
    runs = zlib.compressobj(level=1, strategy=zlib.Z_RLE)  # for runs of black pixels: fastest, and smallest here
    deflated = runs.compress(shades.cpu().numpy().tobytes()) + runs.flush()
    return np.frombuffer(deflated, dtype=np.uint8), {"low": low, "high": high}


def _to_numpy(array: Tensor) -> np.ndarray:
    """A contiguous array in float32, or in int32 if it is not floating point."""
    dtype = torch.float32 if array.is_floating_point() else torch.int32
    return array.detach().to("cpu", dtype).contiguous().numpy()


def _json(metadata: Mapping[str, Any]) -> str:
    """JSON with null for numbers that are not finite."""
    return json.dumps(_finite(metadata), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
