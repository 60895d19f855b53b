"""The language of inputs: what it reads, and that it runs nothing and takes no memory it was not meant to."""

from contextlib import suppress
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bp_torch.gradients import CannotCheck
from bp_torch.gradients.expressions import MAKERS, METHODS, parse_sample


def shapes(text: str) -> list[Any]:
    return [tuple(value.shape) if isinstance(value, torch.Tensor) else value for value in parse_sample(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("randn(4, 8, dtype=float64)", [(4, 8)]),
        ("randn(4, 3), randint(0, 3, (4,))", [(4, 3), (4,)]),
        ("0.1 * randn(3, 4).t(), 'mean', -1, None, (1, 2), [3]", [(4, 3), "mean", -1, None, (1, 2), [3]]),
        ("tensor([[1.0, 2], [3, 4]]), full((2, 3), 7.0), linspace(-3, 3, 5)", [(2, 2), (2, 3), (5,)]),
        ("arange(6).reshape(2, 3), zeros(1, 3).expand(4, 3)", [(2, 3), (4, 3)]),
        ("randn(4, 3).softmax(1), rand(2) + 1", [(4, 3), (2,)]),
        ("", []),
    ],
)
def test_what_it_reads(text: str, expected: list[Any]) -> None:
    assert shapes(text) == expected


def test_numbers_are_signed_repeatable_and_leave_the_generator_alone() -> None:
    state = torch.get_rng_state()
    first, again = parse_sample("randn(50)")[0], parse_sample("randn(50)")[0]
    assert torch.equal(first, again)
    assert first.min() < 0 < first.max()
    assert torch.equal(torch.get_rng_state(), state)


def test_options() -> None:
    (x,) = parse_sample("ones(2, dtype=bfloat16, requires_grad=True)")
    assert x.dtype == torch.bfloat16
    assert x.requires_grad


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("__import__('os').system('true')", "is not known"),
        ("open('/etc/passwd')", "is not known"),
        ("randn(4).__class__", "is not known"),
        ("randn(4).numpy()", "is not known"),
        ("(lambda: 1)()", "is not known"),
        ("[x for x in (1, 2)]", "is not known"),
        ("10 ** 10 ** 10", "is not known"),
        ("randn(*[2])", "is not known"),
        ("randn(2, **{'dtype': float64})", "options are"),
        ("randn(2, out=3)", "options are"),
        ("'a' * 1000000000", "cannot calculate with str"),
        ("randn(4", "no expression"),
        ("(" * 1500, "no expression"),
        ("\0", "no expression"),
        ("1" * 3000, "longer than"),
        ("randn(1000000000)", "more than 200,000 components"),
        ("zeros(3).expand(1000000, 3)", "more than 200,000 components"),
        ("arange(0, 1, 1e-12)", "more than 200,000 components"),
        ("randint(0, 3, (100000, 100000))", "more than 200,000 components"),
        ("rand(1, 200000) * rand(200000, 1)", "more than 200,000 components"),
        ("randn(2) + randn(3)", "broadcast"),
        ("1 / 0", "division by zero"),
        ("'x'.t()", "str has no such method"),
        ("randn(-3)", "negative dimension"),
    ],
)
def test_what_it_refuses_in_one_line(text: str, says: str) -> None:
    with pytest.raises(CannotCheck, match=says) as caught:
        parse_sample(text)
    assert "\n" not in str(caught.value)


_words = st.sampled_from(
    [*MAKERS, *METHODS, "dtype", "float64", "=", "(", ")", ",", ".", "-", "*", "/", "1", "3", "9e9", "'"]
)


@given(st.text(max_size=60) | st.lists(_words, max_size=25).map("".join))
def test_whatever_is_typed_it_answers_or_refuses(text: str) -> None:
    with suppress(CannotCheck):
        parse_sample(text)
