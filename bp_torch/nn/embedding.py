"""Modules of embeddings: tables whose rows are selected by indices."""

import torch
from torch import Tensor

from bp_torch import functional

__all__ = ["Embedding", "EmbeddingBag"]


class Embedding(torch.nn.Embedding):
    """The rows of a table at indices (*), in the shape (*, embedding_dim)."""

    def forward(self, input: Tensor) -> Tensor:
        options = self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        return functional.embedding(input, self.weight, *options)


class EmbeddingBag(torch.nn.EmbeddingBag):
    """The sum, mean or maximum of the rows of each bag, (B, embedding_dim): of (B, N), or of (N,) cut at `offsets`."""

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        return functional.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )
