from dataclasses import replace

import pytest
import torch

from attention.test_multipole import clustered, error
from unabridged.attention.multipole import Multipole, choice
from unabridged.attention.multipole.choice import (
    Choice,
    choose,
    finest,
    misses,
    trial,
)
from unabridged.attention.multipole.far import make_blocks
from unabridged.attention.multipole.plan import Head, Sizes
from unabridged.attention.multipole.price import evaluations, near_for, price
from unabridged.attention.multipole.survey import survey

SIZES = Sizes(group=8, block=8, shared=4)


def head_of(seed=0, length=601, sizes=SIZES):
    return Head(*(part[0, 0] for part in clustered(seed, length)), sizes)


def spread_of(plan):
    """(C·B,): the mean square of δ·(k - m) of every key, over all offsets δ."""
    delta = (plan.groups - plan.groups.mean(1, keepdim=True)).flatten(0, 1)
    keys = plan.pairs[..., : plan.width]
    return ((keys - keys.mean(1, keepdim=True)).flatten(0, 1) @ delta.T).square().mean(1)


def decisions(attention, query, key, value):
    return attention.decisions(query[0] * query.shape[-1] ** -0.5, key[0], value[0])


def settings(**options):
    return Multipole(block=8, group=8, shared=4, short=0, **options)


def test_less_tolerance_takes_more_keys_and_errs_less():
    heads = clustered(4, 601)
    loose, strict = (settings(tolerance=t) for t in (0.3, 0.03))
    assert 0 < error(strict, *heads) < 0.5 * error(loose, *heads) < 0.2
    costs = [[one.choice.cost for one in decisions(m, *heads)] for m in (loose, strict)]
    assert all(more > less for less, more in zip(*costs, strict=True))


def test_tolerance_zero_is_exact():
    heads = clustered(5, 211)
    assert error(settings(tolerance=0.0), *heads) < 1e-12
    assert [one.choice for one in decisions(settings(tolerance=0.0), *heads)] == [None, None]


@pytest.mark.parametrize("tolerance", [0.02, 0.05, 0.2])
def test_a_choice_errs_at_most_its_tolerance_at_sampled_queries_and_little_more_elsewhere(
    tolerance,
):
    heads = clustered(6, 2003)
    for h, one in enumerate(settings(tolerance=tolerance).decisions(*(x[0] for x in heads))):
        assert one.choice.error <= tolerance
        one = [part[:, h : h + 1] for part in heads]
        assert error(settings(tolerance=tolerance), *one) < 1.5 * tolerance


def test_a_trial_errs_as_the_whole_head_does_at_the_same_queries():
    head = head_of(7)
    query, key, value = (part[:, :1] for part in clustered(7, 601))
    attention = settings(near=24)
    exact = Multipole(near="all")(query, key, value, scale=1.0)[0, 0]
    off = (exact - attention(query, key, value, scale=1.0)[0, 0])[head.sample]
    found = misses(head, finest(head, 24))
    torch.testing.assert_close(off, found - found.mean(0), rtol=1e-9, atol=1e-9)
    wanted = found.norm() / exact[head.sample].norm()
    assert trial(head, finest(head, 24)).error == pytest.approx(float(wanted))


def test_what_is_hidden_falls_to_zero_and_is_proportional_to_the_error_nearly():
    head = head_of(8, 1201)
    seen = survey(head)
    for blocks in head.blocks[-2:]:
        hidden = seen.hidden(blocks)
        assert (hidden.diff() <= 0).all()
        assert hidden[-1] == 0
        assert len(hidden) == seen.plan.keys + 1
        ratios = [
            trial(head, Choice.fine(seen, blocks, near)).error / float(hidden[near])
            for near in (0, 32, 128)
        ]
        assert max(ratios) < 3 * min(ratios)


def test_what_is_hidden_is_the_sum_over_far_keys_written_out():
    head = head_of(9, 211)
    seen = survey(head)
    plan = seen.plan
    each = (seen.shares * spread_of(plan)).sort(dim=-1).values
    wanted = each[:, : plan.keys - 10].sum(1).clamp_max(1).square().mean().sqrt()
    torch.testing.assert_close(seen.hidden(len(plan.pairs))[10], wanted)


def test_keys_weigh_what_groups_that_do_not_meet_them_give_them():
    head = head_of(10, 211)
    seen = survey(head)
    plan = seen.plan
    spread = spread_of(plan)
    for near in (0, 40, plan.keys):
        left = seen.shares.clone()
        for row in left:
            row[(row * spread).topk(near).indices] = 0
        wanted = left.mean(0) + 0.01 * left.mean()
        torch.testing.assert_close(seen.weights(len(plan.pairs), near).flatten(), wanted)


def test_moments_of_what_is_left_err_less_than_those_of_all_keys():
    wins = []
    for seed in range(6):
        head = head_of(seed, 1201)
        ours = finest(head, 200)
        alike = replace(ours, blocks=make_blocks(ours.plan.pairs, ours.plan.groups))
        wins.append(trial(head, ours).error < trial(head, alike).error)
    assert sum(wins) >= 5


@pytest.mark.parametrize("fall", [0.3, 0.5, 0.8])
def test_a_head_that_errs_slowly_less_gets_what_it_needs_and_not_all_that_may_be_paid(
    fall, monkeypatch
):
    """Steps are as long as the missing error asks for, so that trials do not run out."""

    def errs(head, tried):
        return replace(tried, error=0.06 * (1 + tried.near / 16) ** -fall)

    monkeypatch.setattr(choice, "trial", errs)
    query, key, value = (part[0, 0] for part in clustered(18, 4001))
    head = Head(query, key, value, Sizes(group=None, block=None, shared=32))
    found = choose(head, tolerance=0.03)
    needed = 16 * (2 ** (1 / fall) - 1)
    assert needed <= found.near <= 3 * needed
    assert price(found.plan, found.near) < 0.4 * 4001


def test_smooth_heads_take_few_groups_and_peaked_ones_near_keys():
    sizes = Sizes(group=None, block=None, shared=32)
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 2003, 5, generator=generator).double()
    smooth, peaked = (
        choose(Head(size * query, key, value, sizes), tolerance=0.05) for size in (0.05, 1.0)
    )
    assert smooth.near == 0
    assert len(smooth.plan.groups) < 20
    assert peaked.near > 0
    assert price(peaked.plan, peaked.near) > 5 * price(smooth.plan, smooth.near)


def test_a_head_that_would_save_little_is_exact():
    for size in (1.0, 0.3):
        query, key, value = (part[0, 0] for part in clustered(11, 211))
        assert choose(Head(size * query, key, value, SIZES), tolerance=1e-7) is None


def test_evaluations_count_multiplications():
    plan = finest(head_of(12), 24).plan
    (groups, group, width), (blocks, size, both) = plan.groups.shape, plan.pairs.shape
    per_group = blocks * size * (width + both) + blocks * width * (both - width)
    per_query = 24 * both + len(plan.shared) * both + blocks * (width + both)
    assert evaluations(plan, 24) == pytest.approx((per_group / group + per_query) / both)
    assert groups > 1


def test_the_finest_plan_has_no_more_near_keys_than_there_are():
    found = finest(head_of(13), 10**6)
    assert found.near == found.plan.keys


def test_a_decision_counts_what_finding_it_took():
    query, key, value = (part[:, :1] for part in clustered(14, 601))
    (given,) = decisions(settings(near=24), query, key, value)
    assert given.spent == pytest.approx(64 + (8 + 7) * 7 / (7 + 5))
    assert given.cost == given.choice.cost + given.spent
    (found,) = decisions(settings(tolerance=0.05), query, key, value)
    assert found.spent > 64 + 8
    (exact,) = decisions(settings(tolerance=0.0), query, key, value)
    assert exact.cost == 601 + exact.spent


def test_a_trial_is_counted_by_the_passes_of_the_groups_that_it_looks_from():
    head = head_of(15)
    one = finest(head, 24)
    before = head.spent
    trial(head, one)
    width, (blocks, _, both) = one.plan.width, one.plan.pairs.shape
    looked_from = len(one.plan.groups_of(head.sample).unique())
    passes = one.plan.keys * (width + both) + blocks * width * (both - width)
    rows = len(head.sample) * ((24 + len(one.plan.shared)) * both + blocks * (width + both))
    wanted = (looked_from * passes + rows) / both / len(head.query)
    assert head.spent - before == pytest.approx(wanted)


@pytest.mark.parametrize("most", [450.0, 900.0, 1800.0])
def test_a_price_pays_for_so_many_near_keys_and_not_for_one_more(most):
    plan = finest(head_of(16), 24).plan
    near = near_for(most, plan)
    assert 0 < near < plan.keys
    assert price(plan, near) <= most < price(plan, near + 1)


def test_a_head_that_guesses_too_dearly_tries_the_most_near_keys_that_pay():
    query, key, value = (part[0, 0] for part in clustered(1, 601))
    head = Head(0.3 * query, key, value, Sizes(group=None, block=None, shared=8))
    found = choose(head, tolerance=0.02)
    assert found.near > 0
    assert found.error <= 0.02
    assert price(found.plan, found.near + 1) > 0.6 * 601 >= price(found.plan, found.near)


def test_a_survey_looks_from_all_over_the_text():
    head = head_of(17, 1201)
    seen = survey(head)
    centres = seen.plan.groups[seen.plan.groups_of(head.sample[::8])].mean(1)
    keys = torch.cat([seen.plan.pairs.flatten(0, 1), seen.plan.shared])[:, : seen.plan.width]
    wanted = (centres @ keys.T).softmax(-1)[:, : seen.plan.keys]
    torch.testing.assert_close(seen.shares, wanted)
