"""The laws of attention. Every member of the family passes them.

Each takes an attention and some heads (`heads`), and asserts; a member's test file calls those
that hold for it, by `@pytest.mark.parametrize("law", SOFTMAX_LAWS)` or one at a time. Shapes are
distinct primes. Laws that hold for settings with fixed features only (same map for every input)
are in `MAP_LAWS`; those that compare with exact attention take a bound.
"""

from __future__ import annotations

import torch

from reference_attention import softmax_attention

B, H, NQ, NK, D, DV = 2, 3, 17, 29, 7, 5


def heads(seed=0, *, queries=NQ, keys=NK, size=1.0, width=D, value_width=DV, dtype=torch.float64):
    """Query, key, value with normal entries; logits of variance about size² (scale 1/sqrt(D))."""
    generator = torch.Generator().manual_seed(seed)
    root = size**0.5
    shapes = (queries, width, root), (keys, width, root), (keys, value_width, 1.0)
    return tuple(
        factor * torch.randn(B, H, n, w, generator=generator, dtype=dtype)
        for n, w, factor in shapes
    )


def some_mask(keys=NK):
    """(B, keys): the last keys of one text and two inner keys of the other are masked."""
    mask = torch.ones(B, keys, dtype=torch.bool)
    mask[0, -keys // 3 :] = False
    mask[1, 2:4] = False
    return mask


def tolerance(dtype):
    """Rounding that a sum of some dozens of terms of order 1 may leave."""
    return {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 4e-2}[dtype]


def close(got, wanted, dtype=torch.float64, times=1.0):
    bound = tolerance(dtype) * times
    torch.testing.assert_close(got.double(), wanted.double(), rtol=bound, atol=bound)


def constant_values_come_back(attention, dtype=torch.float64):
    query, key, value = heads(1, dtype=dtype)
    constant = value[:, :, :1].expand_as(value)
    got = attention(query, key, constant, key_mask=some_mask())
    close(got, constant[:, :, :1].expand_as(got), dtype)


def outputs_lie_in_the_hull_of_the_values(attention):
    """Each coordinate, and each of some directions, lies between its extremes over real keys."""
    query, key, value = heads(2, size=4.0)
    mask = some_mask()
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(DV, 31, generator=generator, dtype=value.dtype)
    seen = mask[:, None, :, None]
    along = value @ directions
    low = along.masked_fill(~seen, torch.inf).amin(2, keepdim=True)
    high = along.masked_fill(~seen, -torch.inf).amax(2, keepdim=True)
    got = attention(query, key, value, key_mask=mask) @ directions
    assert (got >= low - 1e-10).all()
    assert (got <= high + 1e-10).all()


def order_of_keys_does_not_matter(attention):
    query, key, value = heads(3)
    order = torch.randperm(NK, generator=torch.Generator().manual_seed(1))
    got = attention(query, key[:, :, order], value[:, :, order], key_mask=some_mask()[:, order])
    close(got, attention(query, key, value, key_mask=some_mask()))


def padding_changes_nothing(attention, dtype=torch.float32, times=1.0):
    """120 masked keys, large and wild, on a text of 29: the same output to 1e-5 in float32."""
    query, key, value = heads(4, dtype=dtype)
    short = attention(query, key, value)
    wild = (torch.cat([x, 9 * x.repeat(1, 1, 5, 1)[:, :, :120]], dim=2) for x in (key, value))
    mask = torch.arange(NK + 120).expand(B, -1) < NK
    close(attention(query, *wild, key_mask=mask), short, dtype, times)


def padded_queries_change_nothing(attention, dtype=torch.float32, times=1.0):
    """Rows of padding, as a batch has them, leave the rows of the text where they were."""
    query, key, value = heads(5, queries=NK, dtype=dtype)
    short = attention(query, key, value)
    padded = (torch.cat([x, 9 * x[:, :, :23]], dim=2) for x in (query, key, value))
    mask = torch.arange(NK + 23).expand(B, -1) < NK
    close(attention(*padded, key_mask=mask)[:, :, :NK], short, dtype, times)


def heads_are_independent(attention):
    query, key, value = heads(6)
    together = attention(query, key, value)
    loud = tuple(torch.cat([x[:, :1], 5 * x[:, 1:]], dim=1) for x in (query, key, value))
    close(attention(*loud)[:, :1], together[:, :1])


def texts_are_independent(attention):
    query, key, value = heads(7)
    together = attention(query, key, value, key_mask=some_mask())
    alone = attention(query[1:], key[1:], value[1:], key_mask=some_mask()[1:])
    close(alone, together[1:])


def a_shift_of_all_keys_changes_nothing(attention, dtype=torch.float64, times=1.0):
    query, key, value = heads(8, dtype=dtype)
    shift = torch.linspace(-2, 2, D, dtype=dtype)
    close(attention(query, key + shift, value), attention(query, key, value), dtype, times)


def a_change_of_basis_changes_nothing(attention, dtype=torch.float64, times=1.0):
    """q → M^-T q and k → M k, with M of condition number about 30."""
    query, key, value = heads(9, dtype=dtype)
    generator = torch.Generator().manual_seed(2)
    turn = torch.linalg.qr(torch.randn(D, D, generator=generator, dtype=torch.float64)).Q
    M = (turn * torch.logspace(-0.75, 0.75, D, dtype=torch.float64)).to(dtype)
    moved = query @ torch.linalg.inv(M), key @ M.mT
    close(attention(*moved, value), attention(query, key, value), dtype, times)


def one_key_returns_its_value(attention):
    query, key, value = heads(10, keys=1)
    close(attention(query, key, value), value.expand(B, H, NQ, DV))


def no_key_gives_zeros(attention):
    """One text all masked: its rows are zero and the other's are as if alone, gradients finite."""
    query, key, value = (x.requires_grad_() for x in heads(11))
    mask = some_mask()
    mask[0] = False
    got = attention(query, key, value, key_mask=mask)
    assert (got[0] == 0).all()
    close(got[1:].detach(), attention(query[1:], key[1:], value[1:], key_mask=mask[1:]).detach())
    for gradient in torch.autograd.grad(got.square().sum(), (query, key, value)):
        assert gradient.isfinite().all()
        assert (gradient[0] == 0).all()


def large_logits_do_not_overflow(attention):
    """|logits| to 80 and beyond in float32: finite, and constant values come back."""
    query, key, value = heads(12, dtype=torch.float32)
    logits = D**-0.5 * query @ key.mT
    query = query * (80 / logits.abs().amax())
    assert attention(query, key, value).isfinite().all()
    ones = torch.ones_like(value)
    close(attention(query, key, ones), torch.ones(B, H, NQ, DV), torch.float32)


def dtype_comes_back(attention):
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        got = attention(*heads(13, dtype=dtype))
        assert got.dtype == dtype
        assert got.shape == (B, H, NQ, DV)


def scale_multiplies_the_products(attention):
    query, key, value = heads(14)
    root = (D**0.5 / 5) ** 0.5
    close(attention(query, key, value, scale=0.2), attention(root * query, root * key, value))


def equal_settings_give_equal_bits(attention):
    query, key, value = heads(15)
    assert torch.equal(attention(query, key, value), attention(query, key, value))


def the_future_is_not_seen(attention, times=1.0):
    """Changing keys and values from place t on leaves rows before t, and changes row t."""
    query, key, value = heads(16, queries=NK, keys=NK)
    before = attention(query, key, value, causal=True)
    t = 11
    later = [torch.cat([x[:, :, :t], 3 * x[:, :, t:]], dim=2) for x in (query, key, value)]
    after = attention(*later, causal=True)
    close(after[:, :, :t], before[:, :, :t], times=times)
    assert (after[:, :, t] - before[:, :, t]).abs().max() > 1e-3
    close(before[:, :, 0], value[:, :, 0], times=times)


def fewer_queries_than_keys_stand_at_the_end(attention, times=1.0):
    """Causal with Nq < Nk: the rows are the last ones of the full square."""
    query, key, value = heads(17, queries=NK, keys=NK)
    whole = attention(query, key, value, causal=True)
    close(attention(query[:, :, -NQ:], key, value, causal=True), whole[:, :, -NQ:], times=times)


def gradients_are_those_of(attention, oracle, *, causal=False, times=1.0, size=1.0):
    """Same gradients as another attention, masked too, for a random cotangent."""
    inputs = tuple(x.requires_grad_() for x in heads(18, queries=NK, size=size))
    mask = some_mask()
    found = [f(*inputs, key_mask=mask, causal=causal) for f in (attention, oracle)]
    cotangent = torch.randn(found[0].shape, generator=torch.Generator().manual_seed(3)).double()
    got, wanted = (torch.autograd.grad(x, inputs, cotangent) for x in found)
    for a, b in zip(got, wanted, strict=True):
        close(a, b, times=times)


def equals_softmax(attention, dtype=torch.float64, times=1.0, *, causal=False, size=1.0):
    """The exact answer, for members or settings that are exact."""
    query, key, value = heads(19, queries=NK, dtype=dtype, size=size)
    options = {"key_mask": some_mask(), "causal": causal}
    wanted = softmax_attention(query.double(), key.double(), value.double(), **options)
    close(attention(query, key, value, **options), wanted, dtype, times)


SOFTMAX_LAWS = [
    constant_values_come_back,
    outputs_lie_in_the_hull_of_the_values,
    order_of_keys_does_not_matter,
    padding_changes_nothing,
    padded_queries_change_nothing,
    heads_are_independent,
    texts_are_independent,
    a_shift_of_all_keys_changes_nothing,
    one_key_returns_its_value,
    no_key_gives_zeros,
    large_logits_do_not_overflow,
    dtype_comes_back,
    scale_multiplies_the_products,
    equal_settings_give_equal_bits,
]
"""What holds for every member, whatever its settings (invariances on, where it has them)."""

CAUSAL_LAWS = [the_future_is_not_seen, fewer_queries_than_keys_stand_at_the_end]
"""What holds for every member that can be causal."""
