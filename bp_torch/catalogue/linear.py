"""The entry of linear."""

from bp_torch.catalogue.op_info import ErrorInput, RandomTensors, op_info

_draw = RandomTensors(1)


OP_INFOS = (
    op_info(
        "linear",
        "∂C/∂x = δ W, ∂C/∂W = δᵀ x, ∂C/∂b = Σₙ δₙ",
        (
            (_draw(5, 4), _draw(3, 4), _draw(3)),
            (_draw(5, 4), _draw(3, 4)),
            (_draw(4), _draw(3, 4), _draw(3)),  # one example without a batch dimension
            (_draw(2, 5, 4), _draw(3, 4), _draw(3)),
            (_draw(2, 3, 2, 4), _draw(3, 4), _draw(3)),
            (_draw(5, 4), _draw(4)),  # a single neuron
            (_draw(0, 4), _draw(3, 4), _draw(3)),
            (_draw(1, 1), _draw(1, 1), _draw(1)),
            (_draw(4, 5).t(), _draw(4, 3).t(), _draw(6)[::2]),
            (_draw(1, 4).expand(5, 4), _draw(3, 4), _draw(1).expand(3)),
            (_draw(5, 4), _draw(3, 4), _draw(1)),  # one bias for all outputs
            (_draw(5, 4), _draw(3, 4), _draw(5, 3)),
            (_draw(5, 4, scale=1e3), _draw(3, 4, scale=1e-3), _draw(3)),
        ),
        ErrorInput(([1.0], _draw(3, 4)), TypeError, "'input'"),
        ErrorInput((_draw(5, 4), _draw(3, 5)), RuntimeError, r"input \(5, 4\) and weight \(3, 5\)"),
        ErrorInput((_draw(), _draw(3, 4)), RuntimeError, r"input \(\)"),
        ErrorInput((_draw(5, 4), _draw(2, 3, 4)), RuntimeError, r"weight \(2, 3, 4\)"),
        ErrorInput((_draw(5, 4), _draw(3, 4), _draw(2)), RuntimeError, r"bias .*\(2,\)"),
        ErrorInput((_draw(5, 4), _draw(3, 4), _draw(2, 5, 3)), RuntimeError, r"bias .*\(2, 5, 3\)"),
        ErrorInput((_draw(5, 4), _draw(3, 4), _draw(5, 3).float()), RuntimeError, r"bias torch.float32"),
        ErrorInput((_draw(5, 4), _draw(4), _draw(1)), RuntimeError, r"bias .*\(1,\)"),
        ErrorInput((_draw(5, 4), _draw(3, 4).float()), RuntimeError, "weight is torch.float32"),
        ErrorInput((_draw(5, 4), _draw(3, 4), _draw(3).float()), RuntimeError, "bias torch.float32"),
        ErrorInput(
            (_draw(5, 4).to("meta"), _draw(3, 4), _draw(3)), RuntimeError, "input is on meta but weight is on cpu"
        ),
    ),
)
