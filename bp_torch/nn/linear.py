"""Dense layers: torch.nn's own, with a forward that calls the hand-written function."""

import torch
from torch import Tensor

from bp_torch import functional
from bp_torch.functional.dense import FUSED


class Linear(torch.nn.Linear):
    """See `bp_torch.functional.linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """Input (*, in) times weightᵀ plus bias: (*, out)."""
        return functional.linear(input, self.weight, self.bias)


class Dense(torch.nn.Linear):
    """A `Linear` and the activation after it, in one Function: see `bp_torch.functional.dense`.

    Its parameters, their first values and their names are those of torch.nn.Linear.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        activation: str = "sigmoid",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Draw the first weights.

        Raises:
            ValueError: if `activation` is none of 'sigmoid', 'tanh', 'relu'.
        """
        if activation not in FUSED:
            raise ValueError(f"Dense: unknown activation {activation!r}; expected one of {', '.join(FUSED)}")
        super().__init__(in_features, out_features, bias, device, dtype)
        self.activation = activation

    def forward(self, input: Tensor) -> Tensor:
        """The activations of input (*, in): (*, out)."""
        return functional.dense(input, self.weight, self.bias, self.activation)

    def extra_repr(self) -> str:
        """What it is made of, for `print`."""
        return f"{super().extra_repr()}, activation={self.activation}"
