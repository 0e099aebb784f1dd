"""Contributions estimated from projected gradients, each with an interval, and an exact total.

Every step draws its own projections, so that errors of steps are independent and partly cancel;
with one projection for all steps they would add up. The estimates are unbiased. Their sum over all
examples is known exactly without any projection, from the whole step's gradient, so completeness
does not suffer: what the estimates miss of it is a line of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from unabridged.attribution.batches import Inputs, cast
from unabridged.attribution.explained import Explained
from unabridged.attribution.gradients import RowGradients
from unabridged.attribution.ledger import Entry, Ledger
from unabridged.attribution.path_kernel import walk
from unabridged.attribution.quadrature import Node
from unabridged.attribution.replay import Replay
from unabridged.attribution.sketch import Sketch
from unabridged.attribution.steps import TakenStep
from unabridged.attribution.targets import Target
from unabridged.attribution.traces import Backtrace, forgets

__all__ = ["ProjectedLedger", "Projection", "projected_path_kernel"]


@dataclass(frozen=True)
class Projection:
    """How gradients are projected.

    Attributes:
        side: numbers kept of each side of a layer, so side² a layer and block.
        blocks: independent estimates of every product; at least 4, for their spread is the error.
        confidence: of the intervals.
        seed: of the draws.
    """

    side: int = 8
    blocks: int = 16
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.blocks < 4 or self.side < 1 or not 0 < self.confidence < 1:
            raise ValueError(
                f"Projection: got {self}; wanted at least 4 blocks, a side of at least 1 and a "
                "confidence between 0 and 1."
            )

    @property
    def quantile(self) -> float:
        """Of Student's t, two-sided, by the expansion of Cornish and Fisher.

        The spread of B blocks of Gaussians would have B - 1 degrees of freedom. Products of
        projections have heavier tails, an excess kurtosis of about 2, which leaves half of them.

        >>> round(Projection(blocks=17).quantile, 3)
        2.306
        """
        z, n = NormalDist().inv_cdf((1 + self.confidence) / 2), (self.blocks - 1) / 2
        first = (z**3 + z) / (4 * n)
        second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        return z + first + second + third


@dataclass(frozen=True, kw_only=True)
class ProjectedLedger(Ledger):
    """A ledger whose contributions are estimates.

    Law: `start + contributions.sum(1) + projection + decay + rounding + residual` is `prediction`.

    Attributes:
        halfwidth: (T, n) the true contribution lies so far from the estimate at most, with the
            stated confidence, each by itself.
        projection: (T,) the exact sum of all contributions less that of the estimates.
    """

    halfwidth: Tensor
    projection: Tensor

    def _beside(self, row: int) -> list[Entry]:
        return [Entry("error of the projection", float(self.projection[row]))]


def projected_path_kernel(
    replay: Replay,
    inputs: Inputs,
    labels: Tensor,
    *,
    target: Target,
    projection: Projection | None = None,
    tolerance: float = 1e-6,
) -> ProjectedLedger:
    """`path_kernel` with products of projected gradients: for wide layers read at many positions.

    Args:
        replay: a recorded run.
        inputs: T test rows.
        labels: (T,) handed to `target`.
        target: what is explained, row by row.
        projection: how gradients are projected; None for the defaults.
        tolerance: of the quadrature, as in `path_kernel`.

    Raises:
        ValueError: layers that share a parameter.
    """
    settings = projection or Projection()
    tests = Explained(replay, cast(inputs, replay.precision), labels, target)
    trace = SketchTrace(replay, len(labels), settings)
    path = walk(tests, tolerance, trace)
    explained = path.start + trace.total + trace.decay + path.rounding
    return ProjectedLedger(
        ids=replay.ids,
        contributions=trace.contributions,
        start=path.start,
        decay=trace.decay,
        rounding=path.rounding,
        residual=path.prediction - explained,
        prediction=path.prediction,
        gradients_spent=path.spent,
        halfwidth=settings.quantile * trace.variance.sqrt(),
        projection=trace.total - trace.contributions.sum(1),
    )


class SketchTrace:
    """Estimates contributions and their variances, and sums them exactly besides."""

    def __init__(self, replay: Replay, count: int, settings: Projection) -> None:
        self.replay, self._settings = replay, settings
        self.contributions = torch.zeros(count, len(replay.ids), dtype=replay.precision)
        self.variance = torch.zeros_like(self.contributions)
        self.total = torch.zeros(count, dtype=replay.precision)
        self.decay = torch.zeros_like(self.total)
        self._back = None if forgets(replay) else Backtrace(replay, count)

    @property
    def rounding(self) -> Tensor:
        """(T,) from the optimiser's buffers."""
        return torch.zeros_like(self.total) if self._back is None else self._back.rounding

    def add(self, step: TakenStep, nodes: list[Node]) -> None:
        """Account for one step, given the averaged test gradients as nodes."""
        sketch = Sketch(
            self._settings.blocks, self._settings.side, (self._settings.seed, step.number)
        )
        tests: Tensor | None = None
        trace: Tensor | None = None
        if self._back is None:
            if not nodes:
                return
            tests = self._of_nodes(step, nodes, sketch)
        else:
            trace, decay = self._back.through(step, nodes)
            self.decay += decay
            self.total -= step.clip * (trace @ step.gradient)
        for ids, gradients in self.replay.row_gradients(step):
            if tests is None and trace is not None:
                tests = sketch.of_rows(trace, gradients) * -step.clip
            if tests is not None:
                self._estimate(ids, gradients, sketch, tests)

    def _of_nodes(self, step: TakenStep, nodes: list[Node], sketch: Sketch) -> Tensor:
        """(B, T, K) sketches of the tests' weighted gradients, of a step that nothing follows."""
        rates = step.coefficients
        shrink = (rates.nu * rates.omega + rates.delta) * step.theta
        found: Tensor | None = None
        for node in nodes:
            node.add(self.decay, -node.slopes.along(shrink))
            node.add(self.total, node.slopes.along(step.gradient) * (-step.clip * rates.nu))
            part = sketch.of_factors(node.slopes) * (-step.clip * rates.nu)
            if found is None:
                found = part.new_zeros(part.shape[0], len(self.total), part.shape[2])
            if node.rows is None:
                found += part
            else:
                found.index_add_(1, node.rows, part)
        if found is None:
            raise AssertionError("SketchTrace: a step without nodes")
        return found

    def _estimate(
        self, ids: Tensor, gradients: RowGradients, sketch: Sketch, tests: Tensor
    ) -> None:
        products = torch.bmm(tests, sketch.of_factors(gradients).mT)  # (B, T, N)
        columns = self.replay.columns(ids)
        self.contributions.index_add_(1, columns, products.mean(0))
        spread = products.var(0) / len(products)
        self.variance.index_add_(1, columns, spread)
