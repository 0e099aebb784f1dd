import pytest
import torch

from attention.test_multipole import clustered, error
from unabridged.attention.multipole import Multipole
from unabridged.attention.multipole_choice import blocks_needed, choose, estimate, evaluations
from unabridged.attention.multipole_plan import Sizes, make_plan
from unabridged.attention.multipole_tree import (
    block_count,
    coordinates,
    group_count,
    rows,
    tree_order,
)


def plan_of(seed=0, length=601, block=8, group=8):
    return make_plan(*(part[0] for part in clustered(seed, length)), Sizes(block, group, 4))


@pytest.mark.parametrize("blocks", [1, 2, 3, 5, 7, 12, 28])
def test_leaves_of_a_tree_hold_every_point_once(blocks):
    points = torch.randn(3, 11 * blocks, 5, generator=torch.Generator().manual_seed(0))
    order = tree_order(points, blocks)
    assert torch.equal(order.sort(dim=-1).values, torch.arange(11 * blocks).expand(3, -1))


def test_leaves_are_tighter_than_runs_of_points():
    points = torch.randn(2, 512, 3, generator=torch.Generator().manual_seed(1))
    leaves = rows(points, tree_order(points, 64)).view(2, 64, 8, 3)
    runs = points.view(2, 64, 8, 3)
    assert leaves.var(2).mean() < 0.2 * runs.var(2).mean()


@pytest.mark.parametrize("points", [1, 7, 64, 97, 1009, 4099])
@pytest.mark.parametrize("size", [1, 5, 64])
def test_blocks_hold_at_least_and_groups_at_most_the_size(points, size):
    blocks, groups = block_count(points, at_least=size), group_count(points, at_most=size)
    assert points // blocks >= min(size, points)
    assert -(-points // groups) <= size


def test_coordinates_measure_keys_as_queries_see_them():
    generator = torch.Generator().manual_seed(2)
    query, key = (torch.randn(1, n, 5, generator=generator).double() for n in (41, 23))
    query = query * torch.tensor([3.0, 1.0, 1.0, 0.3, 0.1])
    seen = coordinates(key, query)[0]
    difference = key[0, :1] - key[0]
    logits = (query[0] @ difference.T).square().mean(0)
    torch.testing.assert_close((seen[:1] - seen).square().sum(1), logits)


def test_every_query_stands_in_one_slot_and_every_key_in_one_place():
    query, key, value = (part[0] for part in clustered(3, 211))
    plan = make_plan(query, key, value, Sizes(8, 8, 4))
    for h, head in enumerate(plan.heads):
        assert torch.equal(head.groups.flatten(0, 1)[plan.places[h]], query[h])
        found = torch.cat([head.pairs.flatten(0, 1), head.shared])
        wanted = torch.cat([key[h], value[h]], dim=-1)
        assert torch.equal(found[found[:, 0].argsort()], wanted[wanted[:, 0].argsort()])


def test_less_tolerance_takes_more_keys_and_errs_less():
    heads = clustered(4, 601)
    loose, strict = (
        Multipole(tolerance=t, block=8, group=8, shared=4, short=0) for t in (0.3, 0.01)
    )
    assert 0 < error(strict, *heads) < 0.5 * error(loose, *heads) < 0.05
    costs = [[one.cost for one in m.choices(*(x[0] for x in heads))[0]] for m in (loose, strict)]
    assert all(more >= less for less, more in zip(*costs, strict=True))


def test_tolerance_zero_is_exact():
    heads = clustered(5, 211)
    assert error(Multipole(tolerance=0.0, block=8, group=8, short=0), *heads) < 1e-12


def test_what_is_expected_falls_to_zero_and_lies_above_the_error():
    heads = clustered(6, 601)
    for plan in plan_of(6).heads:
        expected = estimate(plan, plan.blocks())
        assert (expected.diff() <= 0).all()
        assert expected[-1] == 0
        assert len(expected) == len(plan.pairs) + 1
    for near in (8, 64):
        attention = Multipole(near=near, block=8, group=8, shared=4, short=0)
        blocks = -(-near // plan.pairs.shape[1])
        assert error(attention, *heads) < expected[blocks]


def test_a_coarser_plan_joins_neighbours():
    head = plan_of(7).heads[0]
    coarse = head.coarser(2)
    assert torch.equal(coarse.pairs.flatten(0, 1), head.pairs.flatten(0, 1))
    assert coarse.groups.shape[1] == 2 * head.groups.shape[1]
    assert head.coarser(10**6) is None


def test_the_cheapest_level_within_the_tolerance_is_chosen():
    for head in plan_of(8).heads:
        chosen = choose(head, tolerance=0.2, levels=3)
        assert chosen.expected <= 0.2
        for level in range(3):
            plan = head.coarser(2**level)
            if plan is not None and chosen.near < len(chosen.plan.pairs):
                near = blocks_needed(estimate(plan, plan.blocks()), 0.2)
                assert chosen.cost <= evaluations(plan, near)


def test_evaluations_count_multiplications():
    head = plan_of(9).heads[0]
    (groups, group, width), (blocks, size, both) = head.groups.shape, head.pairs.shape
    per_group = blocks * size * (width + both) + blocks * width * (both - width)
    per_query = 3 * size * both + len(head.shared) * both + blocks * (width + both)
    assert evaluations(head, 3) == pytest.approx((per_group / group + per_query) / both)
    assert groups > 1
    assert evaluations(head, blocks) == blocks * size + len(head.shared)


def test_a_head_that_would_save_little_is_exact():
    for head in plan_of(10).heads:
        chosen = choose(head, tolerance=1e-6, levels=3)
        assert chosen.near == len(chosen.plan.pairs)
        assert chosen.expected == 0
