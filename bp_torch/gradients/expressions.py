"""Inputs from a command line: a small language of Tensors, read without running anything else.

    randn(4, 8, dtype=float64)
    randn(4, 3), randint(0, 3, (4,))
    randn(5, 4, requires_grad=True), 0.1 * randn(3, 4), "mean"

A line is a sample: arguments separated by commas. It is read as Python's own expressions are, but only these are known:
numbers, texts, True, False, None, tuples and lists; + − * / of numbers and Tensors; the makers and methods below.
"""

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bp_torch.gradients.call import CannotCheck

MOST_COMPONENTS = 200_000
MOST_LETTERS = 2_000

Sizes = Callable[[list[Any]], float]
"""From the arguments of a maker or method, how many components it will make: known before memory is taken."""


def _product(arguments: list[Any]) -> float:
    numbers = [n for a in arguments for n in (a if isinstance(a, tuple | list) else [a])]
    return math.prod(abs(float(number)) for number in numbers)


def _range(arguments: list[Any]) -> float:
    start, end, step = arguments if len(arguments) == 3 else [0, *arguments, 1][-3:]
    return abs(float(end - start) / float(step))


MAKERS: dict[str, tuple[Callable[..., Tensor], Sizes]] = {
    "randn": (torch.randn, _product),
    "rand": (torch.rand, _product),
    "zeros": (torch.zeros, _product),
    "ones": (torch.ones, _product),
    "full": (torch.full, lambda arguments: _product(arguments[:1])),
    "randint": (torch.randint, lambda arguments: _product(arguments[-1:])),
    "arange": (torch.arange, _range),
    "linspace": (torch.linspace, lambda arguments: _product(arguments[-1:])),
    "tensor": (torch.tensor, lambda arguments: 0),
}
METHODS: dict[str, Sizes] = {
    **dict.fromkeys(("abs", "contiguous", "exp", "softmax", "t", "transpose"), lambda arguments: 0),
    **dict.fromkeys(("expand", "reshape"), _product),
}
DTYPES = {
    name: getattr(torch, name) for name in ("float16", "bfloat16", "float32", "float64", "int64", "uint8", "bool")
}
_OPTIONS = ("dtype", "requires_grad", "dim")
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def parse_sample(text: str) -> tuple[Any, ...]:
    """The arguments that a line describes; random numbers are the same at every run.

    Raises:
        CannotCheck: in one line, if it is none of this language or asks for too much.
    """
    try:
        if len(text) > MOST_LETTERS:
            raise CannotCheck(f"longer than {MOST_LETTERS} letters")
        tree = ast.parse(f"({text},)" if text.strip() else "()", mode="eval").body
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return _value(tree)  # type: ignore[no-any-return]
    except CannotCheck as error:
        raise CannotCheck(f"inputs {_shortened(text)}: {error}") from None
    except (SyntaxError, MemoryError, RecursionError):
        raise CannotCheck(f"inputs {_shortened(text)}: no expression") from None
    except Exception as error:  # whatever torch raises for arguments that do not fit
        reason = str(error).partition("\n")[0]
        raise CannotCheck(f"inputs {_shortened(text)}: {reason}") from None


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.Tuple(elts=parts):
            return tuple(_value(part) for part in parts)
        case ast.List(elts=parts):
            return [_value(part) for part in parts]
        case ast.Name(id=name) if name in DTYPES:
            return DTYPES[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _combined(_OPERATORS[type(op)], _value(left), _value(right))
        case ast.Call(func=ast.Name(id=name)) if name in MAKERS:
            return _called(*MAKERS[name], node)
        case ast.Call(func=ast.Attribute(value=target, attr=name)) if name in METHODS:
            return _called(getattr(_tensor(_value(target)), name), METHODS[name], node)
    raise CannotCheck(f"{ast.unparse(node)!r} is not known; makers are {', '.join(MAKERS)}")


def _called(function: Callable[..., Tensor], size: Sizes, call: ast.Call) -> Tensor:
    arguments = [_value(argument) for argument in call.args]
    options = {option.arg: _value(option.value) for option in call.keywords if option.arg in _OPTIONS}
    if len(options) < len(call.keywords):
        raise CannotCheck(f"{ast.unparse(call)!r}: options are {', '.join(_OPTIONS)}")
    _require_small(size(arguments))
    return function(*arguments, **options)


def _combined(operation: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    for side in (left, right):
        if not isinstance(side, Tensor | int | float):
            raise CannotCheck(f"cannot calculate with {type(side).__name__}")
    shapes = [side.shape for side in (left, right) if isinstance(side, Tensor)]
    _require_small(math.prod(torch.broadcast_shapes(*shapes)))  # type: ignore[no-untyped-call]
    return operation(left, right)


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise CannotCheck(f"{type(value).__name__} has no such method")
    return value


def _require_small(components: float) -> None:
    if components > MOST_COMPONENTS:
        raise CannotCheck(f"more than {MOST_COMPONENTS:,} components")


def _shortened(text: str) -> str:
    return repr(text if len(text) < 60 else text[:57] + "...")
