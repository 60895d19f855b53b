"""The figures of an explanation, read back from matplotlib."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.inspection import Explanation, explain
from bp_torch.inspection.drawing import draw_explanation, draw_network
from bp_torch.inspection.figures import DIVERGING, LESS, MORE

BOX = (2.0, 1.0, 8.0, 5.0)


def explained(*sizes: int, activation: str = "sigmoid", target: Any = 0, **more: Any) -> Explanation:
    torch.manual_seed(0)
    model, image = nn.mlp(sizes, activation, **more), torch.rand(sizes[0])
    if target == "what it is":
        target = model(image[None])[0].detach()
    return explain(model, F.squared_error, image, target)


def network_of(explanation: Explanation, chosen: int | None = None) -> Axes:
    axes = Figure().add_subplot()
    draw_network(axes, explanation, BOX, chosen=chosen)
    return axes


def of_kind(axes: Axes, kind: type[Any]) -> list[Any]:
    return [drawn for drawn in axes.collections if isinstance(drawn, kind)]


def discs(axes: Axes, explanation: Explanation) -> list[np.ndarray]:
    """The positions of each layer's neurons from top to bottom, arrays of (count, 2)."""
    at = np.asarray(of_kind(axes, PathCollection)[0].get_offsets())
    counts = [min(20, len(layer.activations)) for layer in explanation.layers]
    assert len(at) == sum(counts)
    return np.split(at, np.cumsum(counts)[:-1])


def edges(axes: Axes, explanation: Explanation) -> dict[tuple[int, int, int], tuple[bool, bool, float, float]]:
    """By layer, end and start of each edge: whether it is solid, whether it is blue, its width and its opacity."""
    places = {tuple(p): (n, i) for n, column in enumerate(discs(axes, explanation)) for i, p in enumerate(column)}
    found = {}
    for lines in of_kind(axes, LineCollection):
        solid = [dashes is None for _, dashes in lines.get_linestyle()]
        for place, (start, end) in enumerate(lines.get_segments()):
            (before, k), (layer, j) = places[tuple(start)], places[tuple(end)]
            assert layer == before + 1
            colour = lines.get_colors()[place]
            assert tuple(colour[:3]) in (to_rgba(MORE)[:3], to_rgba(LESS)[:3])
            blue = tuple(colour[:3]) == to_rgba(MORE)[:3]
            assert (layer, j, k) not in found
            found[layer, j, k] = (solid[place % len(solid)], blue, lines.get_linewidths()[place], colour[3])
    return found


@pytest.mark.parametrize("chosen", [None, 1])
@pytest.mark.parametrize(
    ("sizes", "activation"), [((9, 7, 5, 3), "sigmoid"), ((4, 20, 10), "relu"), ((4, 6, 11), "tanh"), ((5, 3), "relu")]
)
def test_an_edge_is_a_weight_with_a_large_nudge(sizes: tuple[int, ...], activation: str, chosen: int) -> None:
    explanation = explained(*sizes, activation=activation)
    nudges = {
        (number, j, k): nudge
        for number, layer in enumerate(explanation.layers[1:], 1)
        for (j, k), nudge in np.ndenumerate((layer.weight_nudges / layer.weight_nudges.abs().max()).numpy())
    }
    drawn = edges(network_of(explanation, chosen), explanation)
    assert drawn.keys() == {place for place, nudge in nudges.items() if abs(nudge) > 0.02}
    by_strength = sorted(drawn, key=lambda place: abs(nudges[place]))
    for place, (solid, blue, width, opacity) in drawn.items():
        assert solid == blue == (nudges[place] > 0)
        assert 0 < width < 4
        assert 0 < opacity <= 1
    for measure in (2, 3):
        sizes_drawn = [drawn[place][measure] for place in by_strength]
        assert sizes_drawn == sorted(sizes_drawn), "the larger, the stronger"


def test_two_hundredths_of_the_largest_are_too_few() -> None:
    """The nudge of a weight is proportional to the activation before it."""
    model = nn.mlp((3, 3, 1), "relu")
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), (torch.eye(3), 0, torch.ones(1, 3), 0), strict=True):
            parameter.copy_(torch.as_tensor(value))
    explanation = explain(model, F.squared_error, torch.tensor([0.019, 1.0, 0.021]), [0.0])
    drawn = edges(network_of(explanation), explanation)
    assert drawn.keys() == {(1, 0, 1), (1, 0, 2)}
    assert not any(solid for solid, *_ in drawn.values()), "their nudges are negative"


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_a_disc_is_as_bright_as_its_neuron_is_active(activation: str) -> None:
    explanation = explained(6, 8, 4, activation=activation, output_activation="identity")
    with torch.no_grad():
        explanation.layers[0].activations.mul_(3)
    axes = network_of(explanation)
    (drawn,) = of_kind(axes, PathCollection)
    expected, rims = [], []
    for layer in explanation.layers:
        scale = max(1.0, layer.activations.max().item())  # one beyond 1 is as bright as there is
        expected += [min(max(each / scale, 0), 1) for each in layer.activations.tolist()]
        rims += [to_rgba(MORE if nudge >= 0 else LESS) for nudge in layer.nudges.tolist()]
    assert drawn.get_array().tolist() == pytest.approx(expected, abs=1e-6)
    assert (drawn.get_cmap().name, drawn.get_clim()) == ("gray", (0, 1))
    assert [tuple(rim) for rim in drawn.get_edgecolors()] == rims


def test_layers_go_from_left_to_right_in_their_box_and_neurons_from_top_to_bottom() -> None:
    explanation = explained(4, 6, 5, 3)
    columns = discs(network_of(explanation), explanation)
    assert [set(column[:, 0]) for column in columns] == [{2}, {6}, {10}]
    for column in columns:
        assert (np.diff(column[:, 1]) < 0).all()
        assert 1 < column[:, 1].min() < column[:, 1].max() < 6


def test_the_texts_are_the_numbers() -> None:
    explanation = explained(4, 6, 3, target=2)
    axes = network_of(explanation, 1)
    texts = [text.get_text() for text in axes.texts if text.get_text()]
    names, numbers = [str(n) for n in (*range(6), *range(3))], [layer.activations for layer in explanation.layers]
    assert texts[:18:2] == [f"{activation:.2f}" for activation in torch.cat(numbers).tolist()]
    assert texts[1:18:2] == names
    nudges = explanation.output_nudges.tolist()
    assert texts[18:] == [f"{n}: target {int(n == 2)}, nudge {nudge:+.3f}" for n, nudge in enumerate(nudges)]
    assert [text.get_weight() for text in axes.texts if "target" in text.get_text()] == ["normal", "bold", "normal"]
    _, ring = of_kind(axes, PathCollection)
    assert ring.get_offsets().tolist() == [discs_at.tolist() for discs_at in discs(axes, explanation)[1][1:2]]
    assert not network_of(explanation).texts


def test_of_a_large_layer_the_20_with_the_largest_nudges_are_shown() -> None:
    explanation = explained(16, 50, 30, 25, target=3)
    axes = network_of(explanation, 3)
    groups = defaultdict(list)
    for text in axes.texts:
        if text.get_text().isdigit():
            groups[round(text.get_position()[0])].append(int(text.get_text()))
    strongest = [layer.weighted_input_nudges.abs().argsort(descending=True)[:20] for layer in explanation.layers]
    assert [groups[place] for place in sorted(groups)] == [sorted(shown.tolist()) for shown in strongest]
    drawn = edges(axes, explanation)
    assert {layer for layer, *_ in drawn} == {1, 2}
    for (layer, j, k), (solid, *_) in drawn.items():
        (ends, starts) = (sorted(strongest[n].tolist()) for n in (layer, layer - 1))
        assert solid == (explanation.layers[layer].weight_nudges[ends[j], starts[k]].item() > 0)


def panels(explanation: Explanation, *arguments: Any) -> list[Axes]:
    """The digit, its nudges, the network; an output's bias, its weights, the previous activations; the sums."""
    figure = draw_explanation(explanation, *arguments, title="a title")
    figure.draw_without_rendering()
    assert figure.get_size_inches().tolist() == [14, 9]
    assert figure.get_suptitle() == "a title"
    assert len(figure.axes) == 7
    return list(figure.axes)


def pixels(axes: Axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


@pytest.mark.parametrize("sizes", [(16, 8, 4), (6, 5, 4), (9, 4), (2, 30, 12), (1, 1, 1)])
def test_the_panels_show_the_explanations_numbers(sizes: tuple[int, ...]) -> None:
    explanation, last = explained(*sizes), sizes[-1] - 1
    digit, nudges, network, bias, weights, inputs, sums = panels(explanation, last)
    side = {16: 4, 9: 3, 1: 1}.get(sizes[0])
    shape = (side, side) if side else (1, sizes[0])
    assert (pixels(digit) == explanation.image.view(shape).numpy()).all()
    assert (pixels(nudges) == explanation.pixel_nudges.view(shape).numpy()).all()
    avenues = explanation.layers[-1].neuron_nudges(last)
    for axes, numbers in (
        (bias, [avenues.bias]),
        (weights, avenues.weights.tolist()),
        (inputs, avenues.inputs.tolist()),
    ):
        assert [bar.get_height() for bar in axes.patches] == pytest.approx(numbers, rel=1e-6, abs=1e-12)
        assert [bar.get_facecolor() for bar in axes.patches] == [to_rgba(MORE if n >= 0 else LESS) for n in numbers]
    assert bias.get_title().startswith(f"output {last}'s bias")
    assert (pixels(sums)[:-1] == explanation.layers[-1].contributions.numpy()).all()
    assert (pixels(sums)[-1] == explanation.layers[-1].input_nudges.numpy()).all()
    assert [label.get_text() for label in sums.get_yticklabels()] == [*map(str, range(sizes[-1])), "sum"]
    for image in (nudges.images[0], sums.images[0]):
        assert image.get_cmap() is DIVERGING
        assert image.get_clim()[0] == -image.get_clim()[1] == -abs(np.asarray(image.get_array())).max()
    copies = [np.asarray(image.get_array()) for image in network.images]
    assert len(copies) == (min(20, sizes[1]) if side else 0)
    if len(sizes) == 3 and side:
        assert (np.stack(copies).reshape(len(copies), -1) == explanation.layers[0].weight_nudges.numpy()).all()


def test_without_nudges_there_is_no_edge() -> None:
    explanation = explained(16, 8, 4, target="what it is")
    assert not explanation.pixel_nudges.any()
    *_, sums = panels(explanation)
    assert not pixels(sums).any()
    assert edges(network_of(explanation, 0), explanation) == {}


def test_by_default_the_output_with_the_largest_target_is_shown() -> None:
    assert panels(explained(16, 8, 4, target=[0.1, 0.2, 0.9, 0.3]))[3].get_title().startswith("output 2's bias")
