"""Entries of the similarity and distance of vectors."""

import math
from functools import partial

import torch

from bp_torch.catalogue.op_info import ErrorInput, Kink, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(26)
_op_info = partial(op_info, rejects_lists=True)
_a, _b, _signs = _draw(4, 3), _draw(4, 3), torch.tensor([1, -1, -1, 1])
_NOT_BROADCAST = ErrorInput((_a, _draw(4, 2)), RuntimeError, "")
_COMPLEX = ErrorInput((torch.zeros(2, 2, dtype=torch.complex64), torch.ones(2, 2)), NotImplementedError, "complex")

OP_INFOS = (
    _op_info(
        "cosine_similarity",
        "∂C/∂a = g (b̂ − y â) / ‖a‖",
        (
            Sample((_a, _b), {"dim": 1}),
            Sample((_draw(2, 3, 2), _draw(3, 2)), {"dim": -2}, axes="batch channels length, channels length"),
            Sample((_draw(5), _draw(5)), {"dim": 0}),
        ),
        _NOT_BROADCAST,
        _COMPLEX,
        ErrorInput((_a, _b, 2), IndexError, "out of range"),
        ErrorInput((_a, _b, None), TypeError, "'dim'"),
        ErrorInput((_a, _b), RuntimeError, "eps", {"eps": -1.0}),
        ErrorInput((_signs, _signs, 0), RuntimeError, "'x1'"),
    ),
    _op_info(
        "pairwise_distance",
        "∂C/∂a = g d / ‖d‖ with d = a − b + ε; for other p, g sign(d) (|d| / ‖d‖)ᵖ⁻¹",
        (
            Sample((_a, _b), {"p": 2.0, "keepdim": False}),
            Sample((_a, _draw(3)), {"p": 1.5, "keepdim": True}, axes="batch features, features"),
            Sample((_draw(5), _draw(5)), {"p": math.inf, "keepdim": True}),
            Sample((_draw(2, 3, 2), _draw(2, 3, 2)), {"p": 3.0, "keepdim": False}),
        ),
        _NOT_BROADCAST,
        _COMPLEX,
        ErrorInput((_a, _b, "fro"), TypeError, "'p'"),
        kinks=(Kink((2, 2), 0, {"eps": 0.0}), Kink((2, 2), 0, {"eps": 0.0, "p": 1.0})),
    ),
    _op_info(
        "cosine_embedding_loss",
        "∂C/∂y = −g where t = 1; g where t = −1 and the cosine y ≥ m, else 0",
        (
            Sample(
                (_a, _b, _signs), {"margin": 0.0, "reduction": "mean"}, axes="batch features, batch features, batch"
            ),
            Sample((_draw(5), _draw(5), torch.tensor(-1)), {"margin": -0.5, "reduction": "sum"}),
            Sample(
                (_a, _draw(1, 3), _signs),
                {"margin": 0.0, "reduction": "none"},
                axes="batch features, 1 features, batch",
            ),
        ),
        ErrorInput((*_COMPLEX.args, torch.ones(2)), NotImplementedError, "complex"),
        ErrorInput((_a, _b, _signs[:3]), RuntimeError, ""),
        ErrorInput((_a, _b, _signs.unsqueeze(0)), RuntimeError, r"target \(1, 4\)"),
        ErrorInput((_a, _b, _signs), ValueError, "reduction", {"reduction": "average"}),
    ),
)
