"""Modules of the transformer, (L, N, E) to (L, N, E); with `batch_first`, (N, L, E).

The layers that torch.nn's constructors make become those of `bp_torch.nn`; a module that is passed to them, such as
`norm`, stays what it is. PyTorch's fast path for evaluation, which calls no function with a backward, is never taken.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.transformer import _detect_is_causal_mask, _get_seq_len

from bp_torch import functional

__all__ = [
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]


def _counterpart(kind: type[torch.nn.Module]) -> Any:
    """The class of `bp_torch.nn` for one of torch.nn, or None."""
    from bp_torch import nn  # which imports this file

    return vars(nn).get(kind.__name__) if kind is getattr(torch.nn, kind.__name__, None) else None


def _with_hand_written_layers(construct: Callable[..., None]) -> Any:
    """A constructor of torch.nn whose layers become those of `bp_torch.nn`. `as_builtin` is the inverse."""

    @functools.wraps(construct)
    def construct_both(self: torch.nn.Module, *args: Any, **options: Any) -> None:
        construct(self, *args, **options)
        passed = (x for x in (*args, *options.values()) if isinstance(x, torch.nn.Module))
        others = {module for x in passed for module in x.modules()}
        for module in self.modules():
            if module not in others and (counterpart := _counterpart(type(module))):
                module.__class__ = counterpart

    return construct_both


def _activate(activation: Callable[..., Tensor], x: Tensor) -> Tensor:
    """Call the counterpart of one of PyTorch's activations, or any other one itself."""
    if isinstance(activation, torch.nn.Module):
        counterpart = _counterpart(type(activation))
        y: Tensor = counterpart.forward(activation, x) if counterpart else activation(x)
        return y
    name = getattr(activation, "__name__", "")
    builtin = getattr(F, name, None), getattr(torch, name, None)
    known = name in functional.__all__ and activation in builtin
    return getattr(functional, name)(x) if known else activation(x)


class TransformerEncoderLayer(torch.nn.TransformerEncoderLayer):
    """Self-attention and a network of two linear layers, each with a residual connection and layer norm."""

    __init__ = _with_hand_written_layers(torch.nn.TransformerEncoderLayer.__init__)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        masks = src_mask, src_key_padding_mask, is_causal
        if self.norm_first:
            x = functional.add(src, self._sa_block(self.norm1(src), *masks))
            return functional.add(x, self._ff_block(self.norm2(x)))
        x = self.norm1(functional.add(src, self._sa_block(src, *masks)))
        return self.norm2(functional.add(x, self._ff_block(x)))  # type: ignore[no-any-return]

    def _ff_block(self, x: Tensor) -> Tensor:
        hidden = self.dropout(_activate(self.activation, self.linear1(x)))
        return self.dropout2(self.linear2(hidden))  # type: ignore[no-any-return]


class TransformerDecoderLayer(torch.nn.TransformerDecoderLayer):
    """Self-attention, attention to `memory`, and a network, each with a residual connection and layer norm."""

    __init__ = _with_hand_written_layers(torch.nn.TransformerDecoderLayer.__init__)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        masks = tgt_mask, tgt_key_padding_mask, tgt_is_causal
        memory_masks = memory_mask, memory_key_padding_mask, memory_is_causal
        if self.norm_first:
            x = functional.add(tgt, self._sa_block(self.norm1(tgt), *masks))
            x = functional.add(x, self._mha_block(self.norm2(x), memory, *memory_masks))
            return functional.add(x, self._ff_block(self.norm3(x)))
        x = self.norm1(functional.add(tgt, self._sa_block(tgt, *masks)))
        x = self.norm2(functional.add(x, self._mha_block(x, memory, *memory_masks)))
        return self.norm3(functional.add(x, self._ff_block(x)))  # type: ignore[no-any-return]

    def _ff_block(self, x: Tensor) -> Tensor:
        hidden = self.dropout(_activate(self.activation, self.linear1(x)))
        return self.dropout3(self.linear2(hidden))  # type: ignore[no-any-return]


class TransformerEncoder(torch.nn.TransformerEncoder):
    """Encoder layers one after the other, and a norm. Nested Tensors are not used, whatever `enable_nested_tensor`."""

    __init__ = _with_hand_written_layers(torch.nn.TransformerEncoder.__init__)

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        padding = F._canonical_mask(
            src_key_padding_mask, "src_key_padding_mask", F._none_or_dtype(mask), "mask", src.dtype
        )
        mask = F._canonical_mask(mask, "mask", None, "", src.dtype, False)
        length = _get_seq_len(src, self.layers[0].self_attn.batch_first)
        is_causal = _detect_is_causal_mask(mask, is_causal, length)
        x = src
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=is_causal, src_key_padding_mask=padding)
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(torch.nn.TransformerDecoder):
    """Decoder layers one after the other, and a norm. Its forward is torch.nn's, which calls these."""

    __init__ = _with_hand_written_layers(torch.nn.TransformerDecoder.__init__)


class Transformer(torch.nn.Transformer):
    """Encoder and decoder, (S, N, E) and (T, N, E) to (T, N, E). Its forward is torch.nn's, which calls the two."""

    __init__ = _with_hand_written_layers(torch.nn.Transformer.__init__)
