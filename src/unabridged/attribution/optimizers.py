"""SGD, momentum, Nesterov, Adam and AdamW as one recurrence, forwards and backwards.

With g the clipped gradient, z = g + ωθ (coupled decay) and a running buffer b,

    b' = ρ b + κ z        θ' = θ − ν z − ξ b' − δ θ        v' = β₂ v + (1 − β₂) z²  (Adam only)

covers all five. SGD has κ = 0 or a buffer with ξ = lr; Nesterov ν = lr and ξ = lr·μ; Adam has
ρ = β₁, κ = 1 − β₁ and ξ = lr / (1 − β₁ᵗ) / (√(v' / (1 − β₂ᵗ)) + ε), a vector; AdamW δ = lr·λ.

Sources: torch.optim (the order of operations); Kingma and Ba (2015); Loshchilov and Hutter (2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "FIELDS",
    "Coefficients",
    "Family",
    "Moments",
    "coefficients",
    "family_of",
    "hyperparameters",
]

FIELDS = ("lr", "momentum", "dampening", "beta1", "beta2", "eps", "weight_decay")
"""The columns of a recorded step's table of rates, one row a parameter group."""

Number = float | Tensor


@dataclass(frozen=True)
class Family:
    """What does not change during training: the kind of optimiser and its named switches.

    Attributes:
        kind: "sgd" or "adam".
        nesterov: whether SGD looks ahead.
        decoupled: whether decay acts on the parameters themselves (AdamW) or on the gradient.
    """

    kind: str
    nesterov: bool = False
    decoupled: bool = False


@dataclass(frozen=True)
class Moments:
    """The optimiser's running buffers: `buffer` (P,) and, for Adam, `square` (P,)."""

    buffer: Tensor
    square: Tensor


def family_of(optimizer: torch.optim.Optimizer) -> Family:
    """Name the family, or refuse what the recurrence does not cover.

    Raises:
        ValueError: any other optimiser, or amsgrad, maximize and per-group differences in switches.

    >>> family_of(torch.optim.AdamW([torch.zeros(2, requires_grad=True)]))
    Family(kind='adam', nesterov=False, decoupled=True)
    """
    groups = optimizer.param_groups
    for switch in ("maximize", "amsgrad", "differentiable"):
        if any(group.get(switch) for group in groups):
            raise ValueError(f"Recorder: got {switch}=True; no ledger for it, so switch it off.")
    if type(optimizer) is torch.optim.SGD:
        looks = {bool(group["nesterov"]) for group in groups}
        if len(looks) > 1:
            raise ValueError("Recorder: groups differ in nesterov; give all groups the same.")
        return Family("sgd", nesterov=looks.pop())
    if type(optimizer) in (torch.optim.Adam, torch.optim.AdamW):
        apart = {bool(group.get("decoupled_weight_decay")) for group in groups}
        if len(apart) > 1:
            raise ValueError("Recorder: groups differ in decoupled decay; give all the same.")
        return Family("adam", decoupled=apart.pop())
    raise ValueError(
        f"Recorder: got {type(optimizer).__name__}, wanted torch.optim.SGD, Adam or AdamW; "
        "its steps must be a known linear function of past gradients to be shared out."
    )


def hyperparameters(optimizer: torch.optim.Optimizer) -> Tensor:
    """(groups, len(FIELDS)) float64, the rates of the next step."""
    return torch.tensor([_row(group) for group in optimizer.param_groups], dtype=torch.float64)


def _row(group: Mapping[str, Any]) -> list[float]:
    beta1, beta2 = group.get("betas", (0.0, 0.0))
    plain = {name: float(group.get(name, 0.0)) for name in FIELDS}
    return [{**plain, "beta1": float(beta1), "beta2": float(beta2)}[name] for name in FIELDS]


@dataclass(frozen=True)
class Coefficients:
    """One realised step of the recurrence in the module docstring, with its numbers filled in.

    Each is a float or a (P,) tensor. `slope` is dξ/dv', zero except for Adam; `beta2` too.
    """

    rho: Number
    kappa: Number
    nu: Number
    xi: Number
    delta: Number
    omega: Number
    beta2: Number = 0.0
    slope: Number = 0.0

    @property
    def remembers(self) -> bool:
        """Whether a gradient acts beyond its own step."""
        return any(isinstance(x, Tensor) or x != 0.0 for x in (self.rho, self.kappa))

    def advance(self, theta: Tensor, moments: Moments, z: Tensor) -> tuple[Tensor, Moments]:
        """Take the step: (P,) the new parameters, and the new buffers."""
        square = self.beta2 * moments.square + (1 - self.beta2) * z * z
        if not self.remembers:
            return theta - self.nu * z - self.delta * theta, Moments(moments.buffer, square)
        buffer = self.rho * moments.buffer + self.kappa * z
        moved = theta - self.nu * z - self.xi * buffer - self.delta * theta
        return moved, Moments(buffer, square)


def coefficients(
    family: Family, rates: Mapping[str, Number], *, step: int, square: Tensor, z: Tensor | None
) -> Coefficients:
    """Fill in the recurrence for optimiser step number `step` (from 0).

    Args:
        family: the kind of optimiser.
        rates: by name in `FIELDS`, floats or (P,) tensors where parameter groups differ.
        step: how many steps were taken before this one.
        square: (P,) Adam's second moment before the step.
        z: (P,) the step's gradient with coupled decay; needed by Adam only.
    """
    lr, decay = rates["lr"], rates["weight_decay"]
    delta = lr * decay if family.decoupled else 0.0
    omega = 0.0 if family.decoupled else decay
    if family.kind == "sgd":
        momentum = rates["momentum"]
        if not isinstance(momentum, Tensor) and momentum == 0.0:
            return Coefficients(0.0, 0.0, nu=lr, xi=0.0, delta=delta, omega=omega)
        kappa = 1.0 if step == 0 else 1.0 - rates["dampening"]
        ahead = family.nesterov
        nu, xi = (lr, lr * momentum) if ahead else (0.0, lr)
        return Coefficients(momentum, kappa, nu=nu, xi=xi, delta=delta, omega=omega)
    if z is None:
        raise ValueError("coefficients: Adam needs the step's gradient z; got None.")
    return _adam(rates, delta, omega, step=step, square=square, z=z)


def _adam(
    rates: Mapping[str, Number],
    delta: Number,
    omega: Number,
    *,
    step: int,
    square: Tensor,
    z: Tensor,
) -> Coefficients:
    beta1, beta2 = rates["beta1"], rates["beta2"]
    corrected = (beta2 * square + (1 - beta2) * z * z) / (1 - beta2 ** (step + 1))
    root = corrected.sqrt()
    floor = root + rates["eps"]
    xi = rates["lr"] / (1 - beta1 ** (step + 1)) / floor
    # Where no gradient has ever come, root is 0 and so is whatever the slope will multiply.
    safe = torch.where(root > 0, root, torch.ones_like(root))
    slope = -xi / floor / (2 * safe * (1 - beta2 ** (step + 1)))
    slope = torch.where(root > 0, slope, torch.zeros_like(slope))
    return Coefficients(beta1, 1 - beta1, 0.0, xi, delta, omega, beta2=beta2, slope=slope)
