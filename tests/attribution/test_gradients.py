"""Factored gradients equal autograd's, row by row, for layers with factors and without."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reference_attribution import gradient_of_row
from unabridged.attribution.gradients import GradientTape
from unabridged.attribution.layout import Layout


class Tied(nn.Module):
    """An embedding that is also the output layer: one parameter, two uses."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(13, 5)
        self.out = nn.Linear(5, 13, bias=False)
        self.out.weight = self.table.weight

    def forward(self, tokens):
        return self.out(torch.tanh(self.table(tokens)).mean(1))


class Positions(nn.Module):
    """A table looked up once for all rows: no row of it belongs to one example."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(13, 5, padding_idx=0), nn.Embedding(7, 5)
        self.norm, self.out = nn.LayerNorm(5), nn.Linear(5, 3)

    def forward(self, tokens):
        states = self.tokens(tokens) + self.places(torch.arange(7)[None])
        return self.out(torch.tanh(self.norm(states))).sum(1)


class Flattened(nn.Module):
    """A convolution (no factors) and a linear layer that sees rows and positions as one axis."""

    def __init__(self):
        super().__init__()
        self.conv, self.deep, self.out = nn.Conv1d(2, 3, 3), nn.Linear(3, 5), nn.Linear(5, 3)

    def forward(self, tokens):
        signal = torch.stack([tokens, tokens**2], 1).double() / 13
        states = torch.tanh(self.conv(signal)).mT
        deep = torch.tanh(self.deep(states.flatten(0, 1)))
        return self.out(deep).view(len(tokens), -1, 3).mean(1)


class RowsSecond(nn.Module):
    """A linear layer whose first axis counts positions, not rows."""

    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(13, 5), nn.Linear(5, 3)

    def forward(self, tokens):
        return self.out(torch.tanh(self.table(tokens)).transpose(0, 1)).mean(0)


MODELS = [Tied, Positions, Flattened, RowsSecond]


def taped(kind):
    torch.manual_seed(0)
    model = kind().double()
    layout = Layout.of(model, [name for name, _ in model.named_parameters()])
    flat = layout.bind(model, torch.float64)
    tape = GradientTape(model, layout)
    tokens = torch.randint(0, 13, (5, 7), generator=torch.Generator().manual_seed(1))

    def forward(rows=tokens):
        return (model(rows) ** 2).sum(1)

    tape.find_factored(forward)
    return model, layout, flat, tape, tokens, forward


@pytest.mark.parametrize("kind", MODELS)
def test_rows_and_products_equal_autograd(kind):
    model, layout, flat, tape, tokens, forward = taped(kind)
    values, found = tape.run(forward)
    torch.testing.assert_close(values, forward().detach())
    parameters = layout.unflatten(flat.clone())
    exact = torch.stack(
        [
            gradient_of_row(
                model,
                parameters,
                layout.names,
                lambda run, row=row: (run(tokens[row : row + 1]) ** 2).sum(),
            )
            for row in range(5)
        ]
    )
    torch.testing.assert_close(found.rows(flat), exact)
    torch.testing.assert_close(found.total(flat), exact.sum(0))
    torch.testing.assert_close(found.pairs(found, flat), exact @ exact.T)
    directions = torch.randn(3, layout.size, dtype=torch.float64)
    torch.testing.assert_close(found.against(directions), directions @ exact.T)
    torch.testing.assert_close(found.along(directions[0]), exact @ directions[0])
    weights = torch.arange(5, dtype=torch.float64)
    scaled = found.scaled(weights)
    torch.testing.assert_close(scaled.rows(flat), weights[:, None] * exact)
    torch.testing.assert_close(found.chosen(weights > 2).rows(flat), exact[3:])
    torch.testing.assert_close(found.plus([scaled]).rows(flat), (1 + weights[:, None]) * exact)


def test_only_what_has_no_factors_goes_through_autograd():
    assert taped(Tied)[3].other == []
    assert taped(Positions)[3].other == ["places.weight"]
    assert set(taped(Flattened)[3].other) == {"conv.weight", "conv.bias"}
    assert "out.weight" in taped(RowsSecond)[3].other
