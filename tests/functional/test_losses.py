"""Properties of the losses that the catalogue's comparisons with torch cannot test."""

from typing import Any

import pytest
import torch

import bp_torch.functional as F


def test_gradients_of_weight_and_pos_weight() -> None:
    """Torch does not support them, so they are compared with autograd through the definition."""
    generator = torch.Generator().manual_seed(0)
    x, t = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    w, p = ((torch.rand(3, generator=generator, dtype=torch.float64) + 0.5).requires_grad_() for _ in range(2))
    x.requires_grad_()
    t = t.sigmoid().requires_grad_()
    inputs = (x, t, w, p)
    log_sigmoid = torch.nn.functional.logsigmoid
    defined = (-w * (p * t * log_sigmoid(x) + (1 - t) * log_sigmoid(-x))).mean()
    cost = F.binary_cross_entropy_with_logits(x, t, w, pos_weight=p)
    torch.testing.assert_close(cost, defined)
    torch.testing.assert_close(torch.autograd.grad(cost, inputs), torch.autograd.grad(defined, inputs))
    assert torch.autograd.gradgradcheck(
        lambda *args: F.binary_cross_entropy_with_logits(*args[:3], pos_weight=args[3]), inputs, check_fwd_over_rev=True
    )


def test_gradients_are_precise_near_certainty() -> None:
    """Near p = 1 the gradient is tiny, yet correct to rounding in float32."""
    logits = torch.tensor([[0.0, 14.0, -3.0]])
    gradients = []
    for x in (logits, logits.double()):
        x.requires_grad_()
        gradients.append(torch.autograd.grad(F.cross_entropy(x, torch.tensor([1])), x)[0])
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=1e-6, atol=0)


@pytest.mark.parametrize("function", [F.cross_entropy, F.nll_loss])
def test_a_class_of_weight_0_does_not_hide_a_nan(function: object) -> None:
    x = torch.tensor([[torch.nan, 0.0, 1.0]])
    loss = function(x, torch.tensor([0]), weight=torch.tensor([0.0, 1.0, 1.0]), reduction="sum")  # type: ignore[operator]
    assert loss.isnan()


def test_a_class_with_a_logit_of_minus_infinity() -> None:
    """0 log 0 counts as 0, forward, backward and in forward mode."""
    x, t = torch.tensor([[-torch.inf, 0.0, 1.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    value, tangent = torch.func.jvp(lambda x: F.cross_entropy(x, t), (x,), (torch.ones_like(x),))
    gradient = torch.func.grad(lambda x: F.cross_entropy(x, t))(x)
    rest = torch.nn.functional.cross_entropy(x[:, 1:], torch.tensor([0]))
    torch.testing.assert_close((value, tangent), (rest, gradient.sum()))
    assert gradient[0, 0] == 0


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
@pytest.mark.parametrize("weight", [None, torch.zeros(0)])
def test_zero_classes(name: str, reduction: str, weight: torch.Tensor | None) -> None:
    x, t = torch.zeros(2, 0, requires_grad=True), torch.tensor([-100, -100])
    for functions in (F, torch.nn.functional):
        loss = getattr(functions, name)(x, t, weight=weight, reduction=reduction)
        assert loss.nan_to_num(nan=7).tolist() == {"none": [0, 0], "sum": 0, "mean": 7}[reduction]
        assert torch.autograd.grad(loss.sum(), x)[0].shape == (2, 0)


def test_weighted_cross_entropy_under_autocast() -> None:
    x, t, w = torch.randn(4, 3), torch.tensor([0, 1, 2, 2]), torch.rand(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hand = F.cross_entropy(x.bfloat16(), t, weight=w)
        builtin = torch.nn.functional.cross_entropy(x.bfloat16(), t, weight=w)
    torch.testing.assert_close(hand, builtin)


def test_a_weight_that_requires_a_gradient_is_rejected_unless_under_no_grad() -> None:
    x, t, w = torch.randn(4, 3), torch.tensor([0, 1, 2, 2]), torch.rand(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="'weight'"):
        F.cross_entropy(x, t, weight=w)
    with torch.no_grad():
        torch.testing.assert_close(F.cross_entropy(x, t, weight=w), torch.nn.functional.cross_entropy(x, t, weight=w))


def test_integers_promote_to_the_dtype_of_the_target() -> None:
    counts, target = torch.tensor([[1, 2], [3, 4]]), torch.randn(2, 2)
    torch.testing.assert_close(F.mse_loss(counts, target), torch.nn.functional.mse_loss(counts, target))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 4, 3)])
def test_squared_error_is_the_lectures(shape: tuple[int, ...]) -> None:
    x, t = torch.randn(shape), torch.randn(shape)
    torch.testing.assert_close(F.squared_error(x, t), ((x - t) ** 2).sum(-1).mean())


def test_squared_error_of_no_examples_is_nan() -> None:
    x = torch.zeros(0, 3, requires_grad=True)
    cost = F.squared_error(x, torch.zeros(0, 3))
    assert cost.isnan()


@pytest.mark.parametrize("target", [torch.zeros(2), torch.zeros(2, 4), torch.zeros(2, 3, 1)])
def test_squared_error_requires_equal_shapes(target: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"input \(2, 3\) and target .* same shape"):
        F.squared_error(torch.zeros(2, 3), target)


Call = tuple[str, tuple[Any, ...], dict[str, Any]]
_EDGES, _SIGNS = torch.tensor([0.0, 1.0, 0.25, 0.0, 1.0]), torch.tensor([[1.0, -1.0, 0.5]])
_SCORES, _ZERO = torch.tensor([[0.5, 1.5, -0.5], [0.0, 1.0, 0.0]]), torch.zeros(2, 3)
AT_LIMITS: list[Call] = [
    ("binary_cross_entropy", (_EDGES, torch.tensor([0.0, 1.0, 0.5, 1.0, 0.0])), {"reduction": "sum"}),
    ("gaussian_nll_loss", (_SCORES, _ZERO, torch.tensor([[0.0, 1e-3, 2.0]] * 2)), {"eps": 0.01}),
    ("gaussian_nll_loss", (_SCORES, _ZERO, 0.0), {}),
    ("kl_div", (_SCORES, torch.tensor([[0.0, 0.5, 0.5]]).expand(2, 3)), {"reduction": "batchmean"}),
    ("poisson_nll_loss", (_SCORES, torch.tensor([[0.0, 1.0, 3.0]] * 2)), {"full": True}),
    ("huber_loss", (_SCORES, _ZERO), {"delta": 0.5}),
    ("multi_margin_loss", (_SCORES, torch.tensor([0, 1])), {"margin": 1.0}),  # z = 0 for a class of each row
    ("multi_margin_loss", (_SCORES, torch.tensor([0, 1])), {"margin": 1.0, "p": 2}),
    ("multilabel_margin_loss", (_SCORES, torch.tensor([[0, -1, 1], [1, 1, 0]])), {}),
    ("hinge_embedding_loss", (_SCORES, _SIGNS.expand(2, 3)), {"margin": 0.5}),
    ("margin_ranking_loss", (_SCORES, _SCORES.clone(), _SIGNS), {}),
    ("cosine_similarity", (_ZERO, _SCORES), {}),
    ("cosine_similarity", (1e-10 * _SCORES, _SCORES), {}),
    ("cosine_embedding_loss", (_SCORES, _SCORES.clone(), torch.tensor([-1, 1])), {"margin": 1.0}),
    ("pairwise_distance", (_SCORES, _SCORES.clone()), {"eps": 0.0, "p": 3.0}),
    ("triplet_margin_loss", (_SCORES, _ZERO, _ZERO.clone()), {"swap": True, "p": 1}),
]


@pytest.mark.parametrize(("name", "args", "options"), AT_LIMITS, ids=[name for name, *_ in AT_LIMITS])
def test_kinks_and_limits_are_pytorchs(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Value and gradient of the first argument, and of a variance."""
    results = []
    for functions in (F, torch.nn.functional):
        leaves = [x.clone() if isinstance(x, torch.Tensor) else x for x in args]
        chosen = leaves[::2] if name == "gaussian_nll_loss" else leaves[:1]
        needing = [x.requires_grad_() for x in chosen if isinstance(x, torch.Tensor)]
        loss = getattr(functions, name)(*leaves, **options)
        results.append((loss.detach(), torch.autograd.grad(loss.sum(), needing)))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(
    ("name", "args", "argument"),
    [
        ("soft_margin_loss", (_SCORES, _SIGNS.clone().requires_grad_()), "'target'"),
        ("multi_margin_loss", (_SCORES, torch.tensor([0, 1]), 1, 1.0, torch.ones(3, requires_grad=True)), "'weight'"),
    ],
)
def test_constants_must_not_require_a_gradient(name: str, args: tuple[Any, ...], argument: str) -> None:
    for functions in (F, torch.nn.functional):
        with pytest.raises(RuntimeError, match=argument):
            getattr(functions, name)(*args)


def test_labels_of_hinges_have_no_gradient() -> None:
    """As in torch, a target that is only compared may require one."""
    target = torch.ones(2, 3, requires_grad=True)
    assert not F.hinge_embedding_loss(_SCORES, target).requires_grad
    assert not F.cosine_embedding_loss(_SCORES, _SCORES, target[:, 0]).requires_grad


def test_soft_margin_does_not_overflow() -> None:
    """PyTorch's value is infinite there, and its gradient NaN."""
    x = torch.tensor([-2000.0, 2000.0], dtype=torch.float64, requires_grad=True)
    loss = F.soft_margin_loss(x, torch.ones(2), reduction="sum")
    assert (loss.item(), torch.autograd.grad(loss, x)[0].tolist()) == (2000, [-1, 0])


def test_margin_losses_of_no_examples() -> None:
    """PyTorch's mean is whatever was in memory."""
    x = torch.zeros(0, 3)
    for loss in (F.multi_margin_loss(x, torch.zeros(0).long()), F.multilabel_margin_loss(x, x.long())):
        assert loss.isnan()
