"""Statements 6 to 9: the nudges of one example, from its outputs to its pixels."""

from itertools import pairwise
from statistics import mean

import torch
from torch import Tensor

from bp_torch.inspection.drawing import draw_explanation
from bp_torch.inspection.experiments.setup import Claim, ExperimentResult, Setup, cost
from bp_torch.inspection.explanation import Explanation, LayerExplanation, explain
from bp_torch.inspection.sensitivity import hebbian

EXAMPLES = 100
STEP = 1e-4
"""Length of a step along one avenue."""


def one_example(setup: Setup) -> ExperimentResult:
    """Explain a hundred test digits by a partly trained network, and draw the one with the largest cost."""
    pairs = zip(setup.test_images[:EXAMPLES], setup.test_labels[:EXAMPLES], strict=True)
    explanations = [explain(setup.partly_trained, cost, image, label) for image, label in pairs]
    shown = max(explanations, key=lambda one: one.cost)
    label, answer = int(shown.target.argmax()), int(shown.outputs.argmax())
    title = f"The nudges of a {label}, read as {answer}: cost {shown.cost:.3f}"
    layers = range(len(shown.layers))
    correlations = [mean(hebbian([one], layer).correlation for one in explanations) for layer in layers]
    hebbs = _hebbian(explanations, correlations)
    claims = (_output_nudges(explanations), _avenues(explanations), hebbs, _sums(explanations))
    metrics = {
        f"hebbian_correlation_{shown.layers[at].name}": found for at, found in zip(layers, correlations, strict=True)
    }
    return ExperimentResult(claims, metrics, draw_explanation(shown, title=title))


def _output_nudges(explanations: list[Explanation]) -> Claim:
    right = sum(bool(((one.output_nudges > 0) == (one.target > 0)).all()) for one in explanations)
    difference = (
        torch.stack([one.output_nudges - 2 * (one.target - one.outputs) for one in explanations]).abs().max().item()
    )
    return Claim(
        6,
        "the right output should be nudged up, the others down, in proportion to the distance from the target",
        f"holds for {right} of {len(explanations)} digits; the nudge is twice the distance, "
        + (f"to {difference:.0e}" if difference else "exactly"),
        right == len(explanations) and difference < 1e-6,
        "every network",
    )


def _avenues(explanations: list[Explanation]) -> Claim:
    """Take a small step along each avenue of the last layer alone, in float64."""
    found = torch.stack([_decreases(one.layers[-1], one.target) for one in explanations])  # (N, 3)
    least, most = found.amin(0), found.amax(0)
    names = ("biases", "weights", "previous activations")
    ranges = ", ".join(f"{name} {low:.3f} to {high:.3f}" for name, low, high in zip(names, least, most, strict=True))
    return Claim(
        7,
        "three avenues lead there: the biases, the weights, the previous activations",
        f"decrease of the cost along each alone, measured / predicted: {ranges}",
        bool(((least > 0.95) & (most < 1.05)).all()),
        "every network",
    )


def _decreases(layer: LayerExplanation, target: Tensor) -> Tensor:
    """The decrease of the cost by a small step along each avenue, relative to the prediction, (3,)."""
    assert layer.bias is not None
    assert layer.bias_nudges is not None
    start = [tensor.double() for tensor in (layer.bias, layer.weight, layer.inputs)]
    nudges = [tensor.double() for tensor in (layer.bias_nudges, layer.weight_nudges, layer.input_nudges)]

    def cost_at(bias: Tensor, weight: Tensor, inputs: Tensor) -> Tensor:
        return cost((weight @ inputs + bias).sigmoid()[None], target.double()[None])

    ratios = []
    for avenue, nudge in enumerate(nudges):
        moved = [one + STEP * nudge / nudge.norm() if place == avenue else one for place, one in enumerate(start)]
        ratios.append((cost_at(*start) - cost_at(*moved)) / (STEP * nudge.norm()))
    return torch.stack(ratios)


def _hebbian(explanations: list[Explanation], correlations: list[float]) -> Claim:
    """By δⱼ xₖ the weight strengthened most starts at the most active neuron; where it ends depends on the slopes."""
    ends = [
        mean(hebbian([one], at, 1).strongest[0].neuron == int(one.layers[at].nudges.argmax()) for one in explanations)
        for at in range(len(correlations))
    ]
    return Claim(
        8,
        "the strongest strengthening is between the most active neurons and those that should be more active",
        "layer by layer, the correlation of a weight's increase with activation · nudge is "
        f"{', '.join(f'{c:.2f}' for c in correlations)}; the weight strengthened most, which starts at the most active "
        f"neuron, ends at the one of the largest nudge in {', '.join(f'{share:.0%}' for share in ends)} of the digits",
        min(correlations) > 0.5,
    )


def _sums(explanations: list[Explanation]) -> Claim:
    pairs = [pair for one in explanations for pair in pairwise(one.layers)]
    sums = [(layer.contributions.sum(0), before.nudges) for before, layer in pairs]
    added = torch.stack([(mine - nudges).abs().max() / nudges.abs().max() for mine, nudges in sums]).max().item()
    automatic = torch.tensor([one.difference for one in explanations]).max().item()
    return Claim(
        9,
        "the nudges that all neurons give to the layer before are added up, and so on to the pixels",
        f"their sums are that layer's nudges to {added:.0e}, and down to the pixels autograd's gradients to "
        f"{automatic:.0e}, relative to the largest",
        added < 1e-5 and automatic < 1e-5,
        "every network",
    )
