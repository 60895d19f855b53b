"""The steps of SGD and AdamW by hand, in place, on the gradients of one mini-batch."""

import math
from typing import Any

import torch
from torch import Tensor

from bp_torch.engine.tape import Call
from bp_torch.functional.function import Context


class Update:
    """The gradients of one mini-batch.

    Attributes:
        added: parameters and their gradients.
        fused: calls whose `accumulate` computes and adds the gradients in one operation: the function, its ctx, the
            parameters (one or None for each input after the first), and ∂C/∂output.
    """

    def __init__(self, cost: Tensor) -> None:
        """Start without gradients."""
        self.added: list[tuple[Tensor, Tensor]] = []
        self.fused: list[tuple[Any, Context, list[Tensor | None], Tensor]] = []
        self._cost = cost
        self._sums = [cost]

    def fuse(self, call: Call, grad_output: Tensor, addresses: dict[int, int]) -> None:
        """Defer the gradients of a call's parameters to `accumulate`, if all that need one belong to the model.

        Skipped if a factor of the gradient shares memory with a parameter: an earlier update would change it.
        """
        first, *needs = call.ctx.needs_input_grad
        into = [input if needed else None for input, needed in zip(call.inputs[1:], needs, strict=True)]
        if True not in needs or not all([x is None or id(x) in addresses for x in into]):
            return
        if not any([x.untyped_storage().data_ptr() in addresses.values() for x in (call.inputs[0], grad_output)]):
            call.ctx.needs_input_grad = first, *[False] * len(into)
            self.fused.append((call.function, call.ctx, into, grad_output))
            self._sums += [call.output.sum(), grad_output.sum()]  # an infinite input shows in the output

    def is_finite(self) -> bool:
        """Whether the cost and all gradients are finite."""
        # one sum detects NaN and infinity; only then are the Tensors checked, as a sum of finite numbers may overflow
        gradients = [gradient for _, gradient in self.added]
        if math.isfinite(torch.stack([*self._sums, *(gradient.sum() for gradient in gradients)]).sum().item()):
            return True
        factors = [factor for _, ctx, _, grad_output in self.fused for factor in (*ctx.saved_tensors, grad_output)]
        return all(x is None or bool(x.isfinite().all()) for x in (self._cost, *gradients, *factors))

    def parameters(self, model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
        """The parameters of the model that have a gradient, by name."""
        updated = {*(p for p, _ in self.added), *(p for _, _, parameters, _ in self.fused for p in parameters)}
        return [(name, parameter) for name, parameter in model.named_parameters() if parameter in updated]


class SGD:
    """w ← w − η (∂C/∂w + λ w), or with momentum v ← μ v + ∂C/∂w + λ w; w ← w − η v.

    The state is the velocity v of each parameter.
    """

    fuses = True  # the gradients are added to the parameters or velocities, so `accumulate` can do it

    def __init__(self, momentum: float, weight_decay: float) -> None:
        """Take μ and λ."""
        self._momentum = momentum
        self._weight_decay = weight_decay
        self.state: dict[str, Tensor] = {}

    def step(self, update: Update, model: torch.nn.Module, learning_rate: float) -> None:
        """Update the parameters, or with momentum first the velocities and then the parameters."""
        velocities = self._decay(update, model, learning_rate) if self._momentum or self._weight_decay else {}
        alpha = 1.0 if self._momentum else -learning_rate
        for parameter, gradient in update.added:
            velocities.get(parameter, parameter).add_(gradient, alpha=alpha)
        for function, ctx, parameters, grad_output in update.fused:
            into = [velocities.get(p, p) for p in parameters] if velocities else parameters
            function.accumulate(ctx, grad_output, into, alpha)
        for parameter, velocity in velocities.items():
            parameter.add_(velocity, alpha=-learning_rate)

    def shapes(self, model: torch.nn.Module) -> dict[str, torch.Size]:
        """The names and shapes that the state may have."""
        return {name: parameter.shape for name, parameter in model.named_parameters()} if self._momentum else {}

    def _decay(self, update: Update, model: torch.nn.Module, learning_rate: float) -> dict[Any, Tensor]:
        """Apply weight decay and the factor μ; return the velocities by parameter, none without momentum."""
        named = update.parameters(model)
        if not self._momentum:
            for _, parameter in named:
                parameter.mul_(1 - learning_rate * self._weight_decay)
            return {}
        velocities = {parameter: state_like(parameter, self.state, name) for name, parameter in named}
        for parameter, velocity in velocities.items():
            velocity.mul_(self._momentum).add_(parameter, alpha=self._weight_decay)
        return velocities


class AdamW:
    """Averages of the gradient and of its square, and weight decay apart from them.

        m ← β₁ m + (1 − β₁) ∂C/∂w
        v ← β₂ v + (1 − β₂) (∂C/∂w)²
        w ← w − η λ w − η m̂ / (√v̂ + ε)      m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)

    m and v start at 0, so that after t steps their weights sum to 1 − βᵗ: m̂ and v̂ are divided by it. The state is m, v
    and t of each parameter, named as in torch.optim.AdamW: `exp_avg`, `exp_avg_sq` and `step`.

    Source:
        Kingma, Ba, Adam (2015); Loshchilov, Hutter, Decoupled Weight Decay Regularization (2019).
    """

    fuses = False  # the square needs the gradient itself

    def __init__(self, betas: tuple[float, float], eps: float, weight_decay: float) -> None:
        """Take β₁ and β₂, ε and λ."""
        self._betas = betas
        self._eps = eps
        self._weight_decay = weight_decay
        self.state: dict[str, Tensor] = {}

    def step(self, update: Update, model: torch.nn.Module, learning_rate: float) -> None:
        """Update the averages, and then the parameters."""
        gradients: dict[Tensor, Tensor] = dict(update.added)
        for name, parameter in update.parameters(model):
            self._step(name, parameter, gradients[parameter], learning_rate)

    def shapes(self, model: torch.nn.Module) -> dict[str, torch.Size]:
        """The names and shapes that the state may have."""
        of_parameters = [(name, parameter.shape) for name, parameter in model.named_parameters()]
        averages = {f"{name}.{key}": shape for name, shape in of_parameters for key in ("exp_avg", "exp_avg_sq")}
        return averages | {f"{name}.step": torch.Size() for name, _ in of_parameters}

    def _step(self, name: str, parameter: Tensor, gradient: Tensor, learning_rate: float) -> None:
        beta1, beta2 = self._betas
        m, v = (state_like(parameter, self.state, f"{name}.{key}") for key in ("exp_avg", "exp_avg_sq"))
        t = int(state_like(_ZERO, self.state, f"{name}.step").add_(1))
        m.mul_(beta1).add_(gradient, alpha=1 - beta1)
        v.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = v.div(1 - beta2**t).sqrt_().add_(self._eps)
        parameter.mul_(1 - learning_rate * self._weight_decay)
        parameter.addcdiv_(m, root, value=-learning_rate / (1 - beta1**t))


_ZERO = torch.zeros(())


def state_like(parameter: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """The state of this name from earlier steps, or zeros if there is none of the parameter's shape."""
    kept = state.get(name)
    with torch.inference_mode(False), torch.no_grad():
        if kept is None or kept.shape != parameter.shape:
            kept = torch.zeros_like(parameter)
        state[name] = kept.to(parameter)
    return state[name]
