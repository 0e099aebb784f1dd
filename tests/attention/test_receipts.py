from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from unabridged.attention.exact import Exact
from unabridged.attention.favor import Favor
from unabridged.attention.multipole import Multipole
from unabridged.attention.receipts import head_receipts, spread_of_sums
from unabridged.attention.sampling import relative_error, sampled_rows

H, N, D, DV = 3, 211, 7, 5
ROWS = sampled_rows(N, 53)


def heads(size=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    query, key = (size * torch.randn(1, H, N, D, generator=generator) for _ in range(2))
    return query, key, torch.randn(1, H, N, DV, generator=generator)


def mean_value(query, key, value, *, key_mask=None, causal=False, scale=None):
    return value.mean(2, keepdim=True).expand(*query.shape[:3], value.shape[3])


def test_exact_attention_loses_nothing():
    for head in head_receipts(Exact(), *heads(), rows=ROWS):
        assert head.error < 1e-6
        assert head.error_of_mean > 0.1
        assert (head.predicted, head.measured, head.far, head.chosen) == (None,) * 4


def test_the_mean_value_loses_what_the_receipt_says_of_it():
    for head in head_receipts(mean_value, *heads(), rows=ROWS):
        assert head.error == pytest.approx(head.error_of_mean, rel=1e-12)


def test_sampled_rows_stand_for_all():
    few = head_receipts(Favor(), *heads(), rows=ROWS)
    every = head_receipts(Favor(), *heads(), rows=torch.arange(N))
    for sampled, whole in zip(few, every, strict=True):
        assert sampled.error == pytest.approx(whole.error, rel=0.3)


def test_a_scale_is_handed_on():
    query, key, value = heads()
    scaled = head_receipts(Favor(), 2 * query, key, value, rows=ROWS, scale=0.5 * D**-0.5)
    plain = head_receipts(Favor(), query, key, value, rows=ROWS)
    for one, other in zip(scaled, plain, strict=True):
        assert one.error == pytest.approx(other.error, rel=1e-3)
        assert one.error_of_mean == pytest.approx(other.error_of_mean, rel=1e-5)


def test_spread_is_the_mean_over_all_pairs():
    query, key, _ = heads()
    root = D**-0.25
    sums = root * query[:, :, :, None] + root * key[:, :, None]
    wanted = sums.double().square().sum(-1).mean((-2, -1))
    torch.testing.assert_close(spread_of_sums(query, key), wanted, rtol=1e-6, atol=1e-6)


def test_relative_error_of_nothing_is_nothing():
    nothing = torch.zeros(1, 2, 3, 5)
    assert relative_error(nothing, nothing).tolist() == [[0.0, 0.0]]


def test_weights_are_off_by_what_the_variance_foretells_where_it_is_small():
    plain = Favor(features=509, kind="favor+", directions="independent", invariances="none")
    for head in head_receipts(plain, *heads(size=0.5), rows=ROWS):
        # The sum that a weight is divided by is off in the same direction, which takes a part away.
        assert 0.5 * head.predicted < head.measured < 1.05 * head.predicted


def test_weights_are_off_more_where_sums_are_long():
    plain = Favor(features=509, kind="favor+", invariances="none")
    short, long = (head_receipts(plain, *heads(size=size), rows=ROWS) for size in (0.5, 2.0))
    for one, other in zip(short, long, strict=True):
        assert other.predicted > 10 * one.predicted
        assert other.measured > 3 * one.measured
        assert other.error > one.error


def test_trigonometric_features_foretell_nothing():
    waves = Favor(features=4001, kind="trigonometric", invariances="none")
    for head in head_receipts(waves, *heads(size=0.3), rows=ROWS):
        assert head.predicted is None
        assert head.error < 0.5


SMALL = Multipole(near=16, block=8, group=8, shared=4, short=0)


def test_far_mass_is_what_near_and_shared_keys_leave():
    """Flat attention: every key has the same mass, so far is what is not near or shared."""
    query, key, value = heads(size=1e-3)
    shared = N - 24 * 8  # what does not fill one of 24 blocks of 8 is shared
    for head in head_receipts(SMALL, query, key, value, rows=ROWS):
        assert head.far == pytest.approx(1 - (16 + shared) / N, abs=1e-3)
        assert (16 + shared + 22) / N < head.met < 1  # far blocks and centres cost more than one


def test_far_mass_shrinks_as_more_keys_are_met():
    few, many, every = (
        head_receipts(replace(SMALL, near=near), *heads(), rows=ROWS) for near in (8, 80, 205)
    )
    for one, other, last in zip(few, many, every, strict=True):
        assert 1 > one.far > other.far > last.far >= 0
        assert one.met < other.met < last.met
        assert last.far < 1e-6


def test_a_text_too_short_for_multipole_meets_every_key():
    for head in head_receipts(Multipole(), *heads(), rows=ROWS):
        assert (head.far, head.met) == (0.0, 1.0)
        assert head.error < 1e-6


def test_equal_seeds_give_equal_rows_and_other_seeds_others():
    assert torch.equal(sampled_rows(N, 53, seed=1), sampled_rows(N, 53, seed=1))
    assert not torch.equal(sampled_rows(N, 53, seed=1), sampled_rows(N, 53, seed=2))
    assert len(set(sampled_rows(N, 53).tolist())) == 53
