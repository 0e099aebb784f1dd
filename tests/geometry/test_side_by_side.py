"""Sharing a batch out among cores changes nothing in it."""

import pytest
import torch

from unabridged.geometry import _side_by_side
from unabridged.geometry._side_by_side import eigvalsh


@pytest.mark.parametrize("shape", [(5, 7, 7), (2, 3, 7, 7), (7, 7), (1, 7, 7), (0, 7, 7)])
def test_eigenvalues_are_torchs_own(shape, monkeypatch):
    monkeypatch.setattr(_side_by_side, "SMALLEST", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    half = torch.randn(shape, generator=torch.Generator().manual_seed(11), dtype=torch.float64)
    matrices = half @ half.mT
    torch.testing.assert_close(eigvalsh(matrices), torch.linalg.eigvalsh(matrices))


def test_gradients_still_flow(monkeypatch):
    monkeypatch.setattr(_side_by_side, "SMALLEST", 2)
    matrices = torch.diag_embed(torch.tensor([[1.0, 2.0, 4.0]] * 3)).requires_grad_()
    eigvalsh(matrices).sum().backward()
    torch.testing.assert_close(matrices.grad, torch.eye(3).expand(3, 3, 3))
