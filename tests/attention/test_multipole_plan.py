import pytest
import torch

from attention.test_multipole import clustered
from unabridged.attention.multipole.near import select
from unabridged.attention.multipole.plan import Head, Sizes
from unabridged.attention.multipole.tree import Tree, block_count, coordinates, group_count


@pytest.mark.parametrize("leaves", [1, 2, 3, 5, 7, 12, 28])
def test_leaves_of_a_tree_hold_every_point_once(leaves):
    points = torch.randn(11 * leaves, 5, generator=torch.Generator().manual_seed(0))
    order = Tree(points, leaves).order(leaves)
    assert torch.equal(order.sort().values, torch.arange(11 * leaves))


def test_leaves_are_tighter_than_runs_of_points():
    points = torch.randn(512, 3, generator=torch.Generator().manual_seed(1))
    leaves = points[Tree(points, 64).order(64)].view(64, 8, 3)
    assert leaves.var(1).mean() < 0.2 * points.view(64, 8, 3).var(1).mean()


def test_finer_leaves_lie_inside_coarser_ones():
    points = torch.randn(28 * 5, 4, generator=torch.Generator().manual_seed(2))
    tree = Tree(points, 28)
    assert tree.counts == (7, 14, 28)
    coarse = tree.order(7).clone()
    fine = tree.order(28)
    for one, other in zip(coarse.view(7, -1), fine.view(7, -1), strict=True):
        assert torch.equal(one.sort().values, other.sort().values)
    assert torch.equal(tree.order(7), fine)  # what was cut stays cut


@pytest.mark.parametrize("points", [1, 7, 64, 97, 1009, 4099])
@pytest.mark.parametrize("size", [1, 5, 64])
def test_blocks_hold_at_least_and_groups_at_most_the_size(points, size):
    blocks, groups = block_count(points, at_least=size), group_count(points, at_most=size)
    assert points // blocks >= min(size, points)
    assert -(-points // groups) <= size


def test_coordinates_measure_keys_as_queries_see_them():
    generator = torch.Generator().manual_seed(2)
    query, key = (torch.randn(n, 5, generator=generator).double() for n in (41, 23))
    query = query * torch.tensor([3.0, 1.0, 1.0, 0.3, 0.1])
    seen = coordinates(key, query)
    logits = (query @ (key[:1] - key).T).square().mean(0)
    torch.testing.assert_close((seen[:1] - seen).square().sum(1), logits)


def test_coordinates_do_not_feel_the_basis_nor_its_orientation():
    generator = torch.Generator().manual_seed(3)
    query, key = (torch.randn(n, 5, generator=generator).double().exp() for n in (41, 23))
    M = torch.randn(5, 5, generator=generator).double()
    moved = coordinates(key @ M.T, query @ torch.linalg.inv(M))
    torch.testing.assert_close(moved, coordinates(key, query), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("length", [211, 256, 601])
def test_every_query_stands_in_one_slot_and_every_key_in_one_place(length):
    query, key, value = (part[0, 0] for part in clustered(3, length))
    head = Head(query, key, value, Sizes(8, 8, 4))
    for groups in head.groups:
        plan = head.plan(groups, head.blocks[-1])
        assert len(plan.groups) == groups
        assert torch.equal(plan.groups.flatten(0, 1)[plan.places], query)
        found = torch.cat([plan.pairs.flatten(0, 1), plan.shared])
        wanted = torch.cat([key, value], dim=-1)
        assert torch.equal(found[found[:, 0].argsort()], wanted[wanted[:, 0].argsort()])


def test_a_plan_in_fewer_blocks_joins_neighbours():
    query, key, value = (part[0, 0] for part in clustered(4, 601))
    head = Head(query, key, value, Sizes(8, 8, 4))
    plan = head.plan(head.groups[-1], head.blocks[-1])
    coarse = plan.in_blocks(head.blocks[-2])
    assert torch.equal(coarse.pairs.flatten(0, 1), plan.pairs.flatten(0, 1))
    assert len(coarse.pairs) == head.blocks[-2] == len(plan.pairs) // 2


def test_sizes_grow_with_the_root_of_the_text():
    assert [Sizes(None, None, 4).of_group(n) for n in (100, 4096, 16384, 65536)] == [8, 32, 64, 128]
    assert [Sizes(None, None, 4).of_block(n) for n in (4096, 65536)] == [128, 512]
    assert (Sizes(5, 7, 4).of_group(4096), Sizes(5, 7, 4).of_block(4096)) == (5, 7)


def test_keys_with_large_weights_are_shared():
    query, key, value = (part[0, 0] for part in clustered(5, 601))
    key[123] = 9 * query.mean(0)
    plan = Head(query, key, value, Sizes(8, 8, 4)).plan(4, 4)
    assert (plan.shared[:, : plan.width] == key[123]).all(-1).any()


def test_exact_attention_of_the_sample():
    query, key, value = (part[0, 0] for part in clustered(6, 301))
    head = Head(query, key, value, Sizes(8, 8, 4))
    assert len(head.sample.unique()) == 64
    wanted = (query[head.sample] @ key.T).softmax(-1) @ value
    torch.testing.assert_close(head.exact, wanted)


def test_selected_are_the_largest_in_ascending_order():
    scores = torch.tensor([[3.0, -torch.inf, 5.0, 4.0], [1.0, 2.0, 0.0, -1.0]])
    assert select(scores, 2).tolist() == [[2, 3], [0, 1]]


@pytest.mark.parametrize("keys", [40, 1000, 9000])
@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.95, 1])
def test_selecting_by_a_sample_is_selecting(keys, share):
    scores = torch.randn(9, keys, generator=torch.Generator().manual_seed(keys))
    scores[1] = scores[1].sort().values
    scores[2, ::8] += 9  # rows of which a sample says little
    scores[3, ::8] -= 9
    count = int(share * keys)
    wanted = scores.topk(count).indices.sort(-1).values
    assert (select(scores, count) == wanted).all()


def test_of_equal_scores_the_first_are_selected_and_none_twice():
    scores = torch.tensor([0.0, 1.0, 2.0, 1.0, 1.0]).repeat(2, 200)
    assert select(scores, 300)[0].tolist() == sorted(
        [*range(2, 1000, 5), *[n for n in range(1000) if n % 5 in (1, 3, 4)][:100]]
    )
    for same in (-torch.inf, torch.nan):
        assert select(torch.full((2, 1000), same), 3).tolist() == [[0, 1, 2]] * 2
