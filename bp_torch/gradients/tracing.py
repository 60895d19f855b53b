"""What a function does inside: sizes of intermediates, hidden integers, random numbers, saved Tensors."""

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bp_torch.gradients.call import Call
from bp_torch.gradients.containers import leaves


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A record of the operations of a call."""

    def __init__(self, call: Call) -> None:
        """Begin with the arguments, which are known."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: set[int] = set()  # of every intermediate
        self.hidden: list[Tensor] = []  # integer Tensors that are neither arguments nor intermediates
        self.dtypes: set[torch.dtype] = set()  # of every intermediate
        self.is_random = False
        self.is_finite = True  # every intermediate
        self.largest = 0  # number of components of the largest intermediate
        self.completed = False
        self._known = {id(arg): arg for arg in call.args}  # kept alive, so that no id is used twice

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operation, and record it."""
        self.hidden += [x for _, x in leaves(args) if is_integer(x) and x.numel() and id(x) not in self._known]
        self.is_random |= _is_random(func, args, kwargs or {})
        result = func(*args, **(kwargs or {}))
        for _, leaf in leaves(result):
            if isinstance(leaf, Tensor):
                self._known[id(leaf)] = leaf
                self.sizes |= {*leaf.shape}
                self.dtypes.add(leaf.dtype)
                self.largest = max(self.largest, leaf.numel())
                self.is_finite &= bool(leaf.isfinite().all())
        return result


def _is_random(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether an operation draws random numbers: without dropout it does not, although it may."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return False
    given = dict(zip([argument.name for argument in func._schema.arguments], args, strict=False)) | kwargs
    return bool(given.get("dropout_p", given.get("p", 1.0)))


def trace(call: Call) -> Trace:
    """Record a call; one that raises is not completed."""
    copy = call.clone()
    record = Trace(copy)
    try:
        with torch.no_grad(), record:
            copy.output()
        record.completed = True
    except Exception:  # outside the domain, a function may raise anything
        pass
    return record


def saves_intermediate(call: Call) -> bool:
    """Whether a custom Function saves a Tensor that depends on the inputs and is not part of the graph."""
    first, second = _saved_constants(call), _saved_constants(call.at([1.1 * x for x in call.inputs]))
    pairs = zip(first, second, strict=False)
    return any(a.shape == b.shape and not torch.allclose(a, b, equal_nan=True) for a, b in pairs)


def has_custom_backward(call: Call) -> bool:
    """Whether the graph of a call has a node of a custom Function."""
    try:
        return any(_custom_nodes(call))
    except Exception:  # outside the domain, a function may raise anything
        return False


def custom_functions(call: Call) -> list[Any]:
    """The custom Functions in the graph of a call."""
    return [*dict.fromkeys(type(node)._forward_cls for node in _custom_nodes(call))]


def seconds_of_gradient(call: Call, upstream: Tensor) -> float:
    """The time of the second of two gradients: the first in a process is slow."""
    call.vjp(upstream)
    start = time.thread_time()
    call.vjp(upstream)
    return time.thread_time() - start


def _custom_nodes(call: Call) -> Iterator[Any]:
    """The nodes of custom Functions, from the output on."""
    output, _ = call.run()
    nodes, seen = [output.grad_fn], set()
    for node in nodes:  # grows
        if node is not None and node not in seen:
            seen.add(node)
            nodes += [each for each, _ in node.next_functions]
            if isinstance(node, torch.autograd.function.BackwardCFunction):
                yield node


def _saved_constants(call: Call) -> list[Tensor]:
    """The floating-point Tensors without a gradient that custom Functions keep for their backwards."""
    kept = [value for node in _custom_nodes(call) for value in (*node.saved_tensors, *vars(node).values())]
    return [x.detach() for x in kept if isinstance(x, Tensor) and x.is_floating_point() and not x.requires_grad]


def is_integer(value: Any) -> bool:
    """Whether a value is a Tensor of integers."""
    if not isinstance(value, Tensor) or value.dtype == torch.bool:
        return False
    return not value.is_floating_point() and not value.is_complex()
