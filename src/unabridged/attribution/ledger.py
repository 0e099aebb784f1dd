"""A prediction as a sum that reconciles: start + contributions + decay + rounding + residual."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Entry", "Ledger"]


@dataclass(frozen=True)
class Entry:
    """One line: what it is, what it adds, and the training id where it is an example's."""

    label: str
    amount: float
    id: int | None = None


@dataclass(frozen=True)
class Ledger:
    """Why T targets are what they are.

    Law, for every row t: `start[t] + contributions[t].sum() + decay[t] + rounding[t] + residual[t]`
    is `prediction[t]`. The first four are computed each by itself; the residual is what is missing.

    Attributes:
        ids: (n,) training ids, ascending.
        contributions: (T, n) what every example's gradients added along the path.
        start: (T,) the target before training.
        decay: (T,) what weight decay added.
        rounding: (T,) what the recording's own precision added: recorded checkpoints against the
            replay's, measured by forward passes.
        residual: (T,) left unexplained: the error of the quadrature.
        prediction: (T,) the target after training.
        gradients_spent: test gradients computed, the cost of the ledger.
    """

    ids: Tensor
    contributions: Tensor
    start: Tensor
    decay: Tensor
    rounding: Tensor
    residual: Tensor
    prediction: Tensor
    gradients_spent: int = 0

    def __len__(self) -> int:
        """T, the number of predictions explained."""
        return len(self.prediction)

    @property
    def change(self) -> Tensor:
        """(T,) what training did to the targets."""
        return self.prediction - self.start

    @property
    def unexplained(self) -> float:
        """Largest |residual| over rows, as a share of the mean |change|."""
        return float(self.residual.abs().max() / self.change.abs().mean())

    def contribution(self, ids: Tensor) -> Tensor:
        """(T, len(ids)) the columns of the given training ids."""
        places = torch.searchsorted(self.ids, ids).clamp(max=len(self.ids) - 1)
        unknown = ids[self.ids[places] != ids]
        if len(unknown):
            raise ValueError(
                f"Ledger: id {int(unknown[0])} took no part in training; "
                f"wanted ids among the {len(self.ids)} recorded ones."
            )
        return self.contributions[:, places]

    def top(self, row: int, count: int = 10) -> list[Entry]:
        """The examples with the largest absolute contribution to one prediction, largest first."""
        order = self.contributions[row].abs().argsort(descending=True)[:count]
        return [self._example(row, int(place), {}) for place in order]

    def _example(self, row: int, place: int, names: Mapping[int, str]) -> Entry:
        number = int(self.ids[place])
        amount = float(self.contributions[row, place])
        return Entry(names.get(number, f"example {number}"), amount, number)

    def entries(
        self, row: int, *, count: int = 10, names: Mapping[int, str] | None = None
    ) -> list[Entry]:
        """The lines of one prediction; examples beyond `count` share one line; they sum exactly.

        Args:
            row: which prediction.
            count: examples shown one by one.
            names: what to call an id.
        """
        order = self.contributions[row].abs().argsort(descending=True).tolist()
        shown = [self._example(row, place, names or {}) for place in order[:count]]
        rest = math.fsum(self.contributions[row, order[count:]].tolist())
        lines = [Entry("before training", float(self.start[row])), *shown]
        if order[count:]:
            lines.append(Entry(f"{len(order) - count} other examples", rest))
        lines += self._beside(row)
        lines.append(Entry("weight decay", float(self.decay[row])))
        lines.append(Entry("rounding of the recording", float(self.rounding[row])))
        missing = [float(self.prediction[row]), *(-line.amount for line in lines)]
        return [*lines, Entry("residual", math.fsum(missing))]

    def _beside(self, row: int) -> list[Entry]:
        """Lines that only some ledgers have; they stand after the examples."""
        del row
        return []

    def table(self, row: int, *, count: int = 10, names: Mapping[int, str] | None = None) -> str:
        """The lines as plain text, with the prediction they sum to.

        >>> ones = torch.ones(1, dtype=torch.float64)
        >>> parts = torch.tensor([[0.5, -0.25]], dtype=torch.float64)
        >>> ledger = Ledger(torch.tensor([3, 8]), parts, ones, 0 * ones, 0 * ones, 0 * ones, ones)
        >>> print(ledger.table(0, count=1))
        +1.000000000  before training
        +0.500000000  example 3
        -0.250000000  1 other examples
        +0.000000000  weight decay
        +0.000000000  rounding of the recording
        -2.500e-01    residual
        ------------
        +1.000000000  prediction
        """
        lines = self.entries(row, count=count, names=names)
        body = [f"{line.amount:+.9f}  {line.label}" for line in lines[:-1]]
        residual = f"{lines[-1].amount:+.3e}    residual"
        end = f"{float(self.prediction[row]):+.9f}  prediction"
        return "\n".join([*body, residual, "-" * 12, end])

    def to_json(self, row: int, *, count: int = 10, names: Mapping[int, str] | None = None) -> str:
        """The lines of one prediction as JSON, numbers in full precision."""
        lines = self.entries(row, count=count, names=names)
        document: dict[str, Any] = {
            "prediction": float(self.prediction[row]),
            "entries": [{"label": e.label, "amount": e.amount, "id": e.id} for e in lines],
            "residual_share": abs(lines[-1].amount) / max(float(self.change[row].abs()), 1e-300),
        }
        return json.dumps(document)

    def plot(self, row: int, *, count: int = 10, names: Mapping[int, str] | None = None) -> Axes:
        """A waterfall of one prediction.

        Raises:
            ImportError: where matplotlib is missing, with the command that installs it.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("Ledger.plot needs matplotlib: pip install matplotlib") from error
        lines = self.entries(row, count=count, names=names)
        amounts = [line.amount for line in lines]
        bottoms = [math.fsum(amounts[:i]) for i in range(len(amounts))]
        axes = Figure(figsize=(7, 0.35 * len(lines) + 1), layout="constrained").subplots()
        colours = ["tab:green" if amount >= 0 else "tab:red" for amount in amounts]
        axes.barh(range(len(lines)), amounts, left=bottoms, color=colours)
        axes.set_yticks(range(len(lines)), [line.label for line in lines])
        axes.invert_yaxis()
        axes.axvline(float(self.prediction[row]), color="black", linewidth=0.8)
        axes.set_xlabel("running sum to the prediction")
        return axes
