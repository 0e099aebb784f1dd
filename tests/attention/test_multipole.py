import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from attention import laws
from reference_attention import softmax_attention
from reference_multipole import multipole_attention
from unabridged.attention.exact import Exact
from unabridged.attention.multipole import Multipole
from unabridged.attention.sampling import sampled_rows

# Blocks of 3 and groups of 4 against 29 keys and 17 queries: trees, rests, and a far field.
SMALL = Multipole(near=6, block=3, group=4, shared=2, short=0)
AUTO = Multipole(tolerance=0.1, block=3, group=4, shared=2, short=0)
ALL = Multipole(near=1000, block=3, group=4, shared=2, short=0)  # more keys than there are
MEMBERS = pytest.mark.parametrize(
    "attention", [SMALL, AUTO, ALL, Multipole()], ids=["small", "auto", "all", "default"]
)
# A first-order correction may leave the hull of the values; what holds is the next test's box.
LAWS = [law for law in laws.SOFTMAX_LAWS if law is not laws.outputs_lie_in_the_hull_of_the_values]


def clustered(seed, length, width=7, value_width=5, dtype=torch.float64):
    """Keys, queries and values that lie in clusters, as those of language models do."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=dtype)

    topics = torch.randint(11, (length,), generator=generator)
    query, key, value = (
        draw(1, 2, 11, w)[:, :, topics] * 1.5 + draw(1, 2, length, w) * 0.5
        for w in (width, width, value_width)
    )
    return query, key, value


def error(attention, query, key, value):
    exact = softmax_attention(query, key, value)
    return ((attention(query, key, value) - exact).norm() / exact.norm()).item()


@MEMBERS
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_multipole_obeys(law, attention):
    law(attention)


@MEMBERS
def test_multipole_does_not_feel_a_change_of_basis(attention):
    laws.a_change_of_basis_changes_nothing(attention)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_coordinate_lies_between_the_extremes_of_the_values(seed):
    query, key, value = laws.heads(seed, size=9.0)
    mask = laws.some_mask()
    got = SMALL(query, key, value, key_mask=mask)
    seen = mask[:, None, :, None]
    low = value.masked_fill(~seen, torch.inf).amin(2, keepdim=True)
    high = value.masked_fill(~seen, -torch.inf).amax(2, keepdim=True)
    assert (got >= low).all()
    assert (got <= high).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_all_near_is_exact(dtype):
    laws.equals_softmax(ALL, dtype)


def test_all_near_equals_torch_to_1e_6_in_float32():
    query, key, value = laws.heads(
        queries=331, keys=331, width=8, value_width=8, dtype=torch.float32
    )
    query, key, value = query.float(), key.float(), value.float()
    got = Multipole(near=1000, block=16, group=8, short=0)(query, key, value)
    wanted = scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)


def test_short_texts_are_exact():
    laws.equals_softmax(Multipole(short=29, block=3, group=4, near=3))


def test_all_is_exact_attention_itself():
    query, key, value = laws.heads()
    assert torch.equal(
        Multipole(near="all", short=0)(query, key, value), Exact()(query, key, value)
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_heads_side_by_side_give_what_they_give_one_by_one(threads):
    query, key, value = clustered(22, 307, value_width=7)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        together = AUTO(query, key, value)
    finally:
        torch.set_num_threads(before)
    alone = [AUTO(*(part[:, h : h + 1] for part in (query, key, value))) for h in range(2)]
    laws.close(together, torch.cat(alone, dim=1))


def test_side_by_side_keeps_inference_mode_and_threads():
    query, key, value = clustered(23, 307)
    before = torch.get_num_threads()
    with torch.inference_mode():
        assert AUTO(query, key, value).is_inference()
    assert torch.get_num_threads() == before


def test_the_mean_over_sampled_rows_is_exact():
    """Single rows are off; what they are off on average is taken from all of them."""
    query, key, value = clustered(24, 2003)
    attention = Multipole(near=8, block=64, group=64, shared=4, short=0)
    off = attention(query, key, value) - softmax_attention(query, key, value)
    assert off[:, :, sampled_rows(2003, 64)].mean(2).abs().max() < 1e-9
    assert off.abs().max() > 0.1


def test_groups_of_one_query_are_exact():
    """With δ = 0 the expansion is the softmax itself, however few keys are near."""
    laws.equals_softmax(Multipole(near=3, block=3, group=1, shared=1, short=0))


@pytest.mark.parametrize("masked", [False, True])
def test_multipole_equals_the_slow_formula(masked):
    query, key, value = laws.heads(20, queries=31, keys=53)
    mask = torch.ones(laws.B, 53, dtype=torch.bool)
    mask[1, 5:9] = not masked
    attention = Multipole(near=9, block=4, group=5, shared=3, short=0)
    got = attention(query, key, value, key_mask=mask)
    laws.close(got, multipole_attention(attention, query, key, value, mask))


def test_values_may_be_wider_or_as_wide_as_keys():
    """Both ways to compute the near part, the fused one and the plain one."""
    query, key, value = laws.heads(21, width=5, value_width=5)
    wide = torch.cat([value, value], dim=-1)
    laws.close(SMALL(query, key, wide), SMALL(query, key, value).repeat(1, 1, 1, 2))


def test_more_near_keys_err_less_and_none_is_worse_than_the_mean():
    query, key, value = clustered(1, 601)
    errors = [
        error(Multipole(near=near, block=8, group=16, shared=4, short=0), query, key, value)
        for near in (8, 64, 256)
    ]
    exact = softmax_attention(query, key, value)
    floor = (value.mean(2, keepdim=True) - exact).norm() / exact.norm()
    assert floor > 0.5
    assert 0.2 * floor > errors[0] > 1.5 * errors[1] > 3 * errors[2] > 0


def test_smaller_groups_err_less():
    query, key, value = clustered(2, 601)
    large, small = (
        error(Multipole(near=16, block=8, group=group, shared=4, short=0), query, key, value)
        for group in (64, 8)
    )
    assert small < 0.7 * large


@pytest.mark.parametrize("attention", [SMALL, ALL], ids=["small", "all"])
def test_gradients_are_those_of_the_slow_formula(attention):
    def oracle(query, key, value, *, key_mask, causal):
        assert not causal
        return multipole_attention(attention, query, key, value, key_mask)

    laws.gradients_are_those_of(attention, oracle)


def test_gradients_are_exact_where_all_keys_are_near():
    laws.gradients_are_those_of(ALL, softmax_attention)


def test_gradients_come_close_to_those_of_exact_attention():
    inputs = tuple(x.requires_grad_() for x in clustered(3, 307))
    attention = Multipole(near=64, block=8, group=8, shared=4, short=0)
    cotangent = torch.randn(1, 2, 307, 5, generator=torch.Generator().manual_seed(4)).double()
    got, wanted = (
        torch.autograd.grad(f(*inputs), inputs, cotangent) for f in (attention, softmax_attention)
    )
    for one, other in zip(got, wanted, strict=True):
        assert 1e-4 < (one - other).norm() / other.norm() < 0.1


@pytest.mark.parametrize("size", [0.1, 2.2], ids=["coarse", "fine"])
def test_gradients_go_through_whatever_plan_is_chosen(size):
    generator = torch.Generator().manual_seed(0)
    query, key, value, cotangent = torch.randn(4, 1, 1, 2003, 5, generator=generator).double()
    inputs = tuple(x.requires_grad_() for x in (size * query, key, value))
    attention = Multipole(tolerance=0.05, short=0)
    with torch.no_grad():
        (decided,) = attention.decisions(inputs[0][0] * 5**-0.5, key[0], value[0])
    assert (decided.choice.near > 0) == (size > 1)
    got, wanted = (
        torch.autograd.grad(f(*inputs), inputs, cotangent) for f in (attention, softmax_attention)
    )
    for one, other in zip(got, wanted, strict=True):
        assert 1e-4 < (one - other).norm() / other.norm() < 0.2


def test_the_future_cannot_be_hidden():
    with pytest.raises(ValueError, match="past and future; use Exact or Favor"):
        SMALL(*laws.heads(), causal=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"near": 0}, "near is 0"),
        ({"near": "some"}, "near is 'some'"),
        ({"tolerance": -0.1}, "tolerance is -0.1"),
        ({"block": 0}, "block is 0"),
        ({"group": -1}, "group is -1"),
        ({"shared": 0}, "shared is 0"),
        ({"short": -1}, "short is -1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Multipole(**settings)
