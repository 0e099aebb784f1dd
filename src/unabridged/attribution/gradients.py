"""Gradients of every row of a batch from one forward and one backward pass.

Hooks keep each layer's input; one backward pass to the layers' outputs (not to the weights) gives
the other factor. Parameters of modules without a known factorisation go through autograd once a
row, batched. What is factored is not assumed but tested: `find_factored` compares against autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from unabridged.attribution.factors import (
    Dense,
    EmbeddingFactors,
    Factors,
    LinearFactors,
    NormFactors,
)
from unabridged.attribution.layout import Layout

__all__ = ["GradientTape", "RowGradients"]


@dataclass(frozen=True)
class RowGradients:
    """Gradients of N scalars, one a row, with respect to all P trained parameters.

    Attributes:
        parts: the factors, each with a key of its layer.
        count: N.
        size: P.
        disjoint: whether no parameter appears in two parts, so that `pairs` may go part by part.
    """

    parts: tuple[tuple[int, Factors], ...]
    count: int
    size: int
    disjoint: bool

    def total(self, like: Tensor) -> Tensor:
        """(P,) the sum over rows."""
        flat = like.new_zeros(self.size)
        for _, part in self.parts:
            part.total(flat)
        return flat

    def rows(self, like: Tensor) -> Tensor:
        """(N, P) all gradients, formed."""
        matrix = like.new_zeros(self.count, self.size)
        self.add_rows(matrix)
        return matrix

    def add_rows(self, matrix: Tensor) -> None:
        """Add all gradients to (N, P) `matrix`."""
        for _, part in self.parts:
            part.rows(matrix)

    def along(self, direction: Tensor) -> Tensor:
        """(N,) derivative of every row's scalar along one (P,) direction."""
        return _sum([part.along(direction) for _, part in self.parts])

    def against(self, directions: Tensor) -> Tensor:
        """(T, N) inner products with T directions (T, P)."""
        return _sum([part.against(directions) for _, part in self.parts])

    def pairs(self, other: RowGradients, like: Tensor) -> Tensor:
        """(N, M) inner products with the gradients of M other rows."""
        if not (self.disjoint and other.disjoint):
            return self.rows(like) @ other.rows(like).T
        theirs = dict(other.parts)
        return _sum([part.pairs(theirs[key]) for key, part in self.parts if key in theirs])

    def scaled(self, weights: Tensor) -> RowGradients:
        """Every row's gradient times its weight (N,)."""
        parts = tuple((key, part.scaled(weights)) for key, part in self.parts)
        return RowGradients(parts, self.count, self.size, self.disjoint)

    def chosen(self, rows: Tensor) -> RowGradients:
        """The gradients of some rows, by a boolean mask (N,) or by indices."""
        parts = tuple((key, part.chosen(rows)) for key, part in self.parts)
        count = int(rows.sum()) if rows.dtype == torch.bool else len(rows)
        return RowGradients(parts, count, self.size, self.disjoint)

    def plus(self, others: Sequence[RowGradients]) -> RowGradients:
        """The sum with gradients of the same rows elsewhere (other parameters, same layers)."""
        if not others:
            return self
        theirs = [dict(other.parts) for other in others]
        parts = tuple((key, part.plus([t[key] for t in theirs])) for key, part in self.parts)
        return RowGradients(parts, self.count, self.size, self.disjoint)

    @property
    def bytes(self) -> int:
        """Memory that the factors take."""
        held = [value for _, part in self.parts for value in vars(part).values()]
        return sum(v.numel() * v.element_size() for v in held if isinstance(v, Tensor))


def _sum(terms: list[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


class GradientTape:
    """Watches a model's layers, and turns a forward pass into `RowGradients`.

    Args:
        model: the replay's own copy of the model.
        layout: its trained parameters.
    """

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        self.model, self.layout = model, layout
        self._uses: list[tuple[nn.Module, Tensor, Tensor]] = []
        self._watching = False
        self._cache: dict[nn.Module, dict[str, slice]] = {}
        self._parameters = dict(model.named_parameters(remove_duplicate=False))
        self._first = {p: n for n, p in model.named_parameters()}
        self._modules = [m for m in model.modules() if self._factorable(m)]
        for module in self._modules:
            module.register_forward_hook(self._keep)
        covered = {self._name(p) for m in self._modules for p in m.parameters(recurse=False)}
        self.other = [name for name in layout.names if name not in covered]

    def _name(self, parameter: Tensor | None) -> str | None:
        name = None if parameter is None else self._first.get(parameter)  # type: ignore[call-overload]
        return name if name in self.layout.names else None

    def _factorable(self, module: nn.Module) -> bool:
        kinds = (nn.Linear, nn.Embedding, nn.LayerNorm)
        trained = any(self._name(p) for p in module.parameters(recurse=False))
        return type(module) in kinds and trained

    def _keep(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self._watching:
            self._uses.append((module, inputs[0].detach(), output))

    def run(self, forward: Callable[[], Tensor]) -> tuple[Tensor, RowGradients]:
        """Run `forward` and differentiate the (N,) scalars it returns, each by its own row.

        Returns:
            The (N,) scalars, detached, and their gradients.
        """
        with torch.enable_grad():
            self._watching = True
            try:
                scalars = forward()
            finally:
                self._watching = False
                uses, self._uses = self._uses, []
            return scalars.detach(), self.differentiate(scalars, uses)

    def differentiate(
        self, scalars: Tensor, uses: list[tuple[nn.Module, Tensor, Tensor]]
    ) -> RowGradients:
        """Backward from (N,) scalars to the watched layers, and to the parameters of the others."""
        outputs = [output for _, _, output in uses]
        count = len(scalars)
        parts: list[tuple[int, Factors]] = []
        if outputs:
            gradients = torch.autograd.grad(
                scalars.sum(), outputs, retain_graph=bool(self.other), materialize_grads=True
            )
            for (module, a, _), d in zip(uses, gradients, strict=True):
                part = self._part(module, a, d, count)
                if part is not None:
                    parts.append((id(module), part))
        if self.other:
            parts.append((0, self._dense(scalars)))
        disjoint = self._disjoint([module for module, _, _ in uses])
        return RowGradients(tuple(parts), count, self.layout.size, disjoint)

    def _part(self, module: nn.Module, a: Tensor, d: Tensor, count: int) -> Factors | None:
        places = self._places(module)
        weight, bias = places.get("weight"), places.get("bias")
        if weight is None and bias is None:
            return None
        if isinstance(module, nn.Embedding):
            width = d.shape[-1]
            place = weight if weight is not None else slice(0, 0)
            index, d = a.reshape(count, -1), d.reshape(count, -1, width)
            return EmbeddingFactors(index, d, place, module.padding_idx)
        if isinstance(module, nn.LayerNorm):
            normal = layer_norm(a, module.normalized_shape, eps=module.eps)
            scale = (normal * d).reshape(count, -1, *module.normalized_shape).sum(1).flatten(1)
            shift = d.reshape(count, -1, *module.normalized_shape).sum(1).flatten(1)
            return NormFactors(scale, shift, weight, bias)
        shapes = (count, -1, a.shape[-1]), (count, -1, d.shape[-1])
        return LinearFactors(a.reshape(shapes[0]), d.reshape(shapes[1]), weight, bias)

    def _drop_shared(self, uses: list[tuple[nn.Module, Tensor, Tensor]], count: int) -> None:
        """Layers whose output has no row of its own for every row, such as position tables."""
        for module, _, output in uses:
            if output.shape[0] % count:
                names = [self._name(p) for p in module.parameters(recurse=False)]
                self.other += [n for n in names if n is not None and n not in self.other]
        self._cache.clear()

    def _disjoint(self, modules: list[nn.Module]) -> bool:
        places = [place.start for module in modules for place in self._places(module).values()]
        return len(places) == len(set(places))

    def _places(self, module: nn.Module) -> dict[str, slice]:
        if module not in self._cache:
            names = {n: self._name(p) for n, p in module.named_parameters(recurse=False)}
            self._cache[module] = {
                n: self.layout.span(full)
                for n, full in names.items()
                if full is not None and full not in self.other
            }
        return self._cache[module]

    def _dense(self, scalars: Tensor) -> Dense:
        parameters = [self._parameters[name] for name in self.other]
        each = torch.eye(len(scalars), dtype=scalars.dtype)
        gradients = torch.autograd.grad(
            scalars, parameters, each, is_grads_batched=True, materialize_grads=True
        )
        every = torch.arange(self.layout.size)
        places = torch.cat([every[self.layout.span(name)] for name in self.other])
        return Dense(torch.cat([g.flatten(1) for g in gradients], 1), places)

    def find_factored(self, forward: Callable[[], Tensor]) -> None:
        """Move to autograd every parameter whose factored gradients differ from autograd's.

        Catches what hooks cannot see: weights used functionally, rows that are not the first axis.
        Compares the first and the last row of one forward pass.
        """
        with torch.enable_grad():
            self._watching = True
            try:
                scalars = forward()
            finally:
                self._watching = False
                uses, self._uses = self._uses, []
            self._drop_shared(uses, len(scalars))
            other, rows = self.other, [0, len(scalars) - 1]
            self.other = list(self.layout.names)
            chosen = torch.eye(len(scalars), dtype=scalars.dtype)[rows]
            parameters = [self._parameters[name] for name in self.layout.names]
            true = torch.autograd.grad(
                scalars,
                parameters,
                chosen,
                is_grads_batched=True,
                retain_graph=True,
                materialize_grads=True,
            )
            self.other = other
            self._cache.clear()
            formed = self.differentiate(scalars, uses).rows(scalars.detach())[rows]
        exact = torch.cat([g.flatten(1) for g in true], 1)
        tolerance = 1e-4 if scalars.dtype == torch.float32 else 1e-9
        floor = tolerance * exact.abs().max()
        for name in self.layout.names:
            place = self.layout.span(name)
            gap = (formed[:, place] - exact[:, place]).abs().max()
            if name not in self.other and gap > floor:
                self.other.append(name)
        self._cache.clear()
