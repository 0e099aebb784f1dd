import math

import pytest
import torch

from attention import laws
from reference_attention import (
    feature_attention,
    performer_attention,
    positive_logs,
    softmax_attention,
)
from unabridged.attention.favor import Favor, _Heads
from unabridged.attention.features import draw

POSITIVE = [
    Favor(64, "favor+", invariances="none"),
    Favor(64, "favor+", "independent", "keys"),
    Favor(64, "favor++", "paired", "centred"),
    Favor(64, "favor++", invariances="none", spread=4.0),
    Favor(64, "favor#", invariances="none"),
    Favor(64, "favor#", redraws=2),
    Favor(3, "favor+", invariances="monge"),
]
CAUSAL = [
    Favor(64, "favor+", invariances="none"),
    Favor(64, "favor++", "paired", "none", spread=4.0),
]
SHIFT = laws.a_shift_of_all_keys_changes_nothing


def name(x):
    if not isinstance(x, Favor):
        return x.__name__
    return f"{x.kind}-{x.features}-{x.directions}-{x.invariances}-{x.redraws}"


def small_heads(seed=0, **options):
    """Logits small enough for the variance of a feature to be of order 1."""
    return laws.heads(seed, size=0.3, **options)


@pytest.mark.parametrize("attention", POSITIVE, ids=name)
@pytest.mark.parametrize("law", [x for x in laws.SOFTMAX_LAWS if x is not SHIFT], ids=name)
def test_favor_obeys(law, attention):
    law(attention)


@pytest.mark.parametrize("attention", CAUSAL, ids=name)
@pytest.mark.parametrize("law", laws.CAUSAL_LAWS, ids=name)
def test_causal_favor_obeys(law, attention):
    law(attention)


@pytest.mark.parametrize("attention", POSITIVE, ids=name)
def test_shifts_of_keys_are_felt_by_bare_features_only(attention):
    if attention.invariances == "none":
        with pytest.raises(AssertionError, match="not close"):
            SHIFT(attention)
    else:
        SHIFT(attention)
        SHIFT(attention, torch.float32)


@pytest.mark.parametrize("kind", ["favor+", "favor++", "favor#"])
def test_changes_of_basis_are_felt_without_monge_only(kind):
    law = laws.a_change_of_basis_changes_nothing
    law(Favor(64, kind))
    law(Favor(64, kind), torch.float32, times=100)
    with pytest.raises(AssertionError, match="not close"):
        law(Favor(64, kind, invariances="centred"))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("redraws", [1, 2])
def test_favor_is_its_features_a_pair_at_a_time(redraws, causal):
    query, key, value = laws.heads(queries=23, size=3.0)
    w = draw(19, laws.D, directions="orthogonal", seed=5, redraws=redraws)
    logs = (positive_logs(laws.D**-0.25 * x, w) for x in (query, key))
    wanted = feature_attention(*logs, value, causal=causal)
    attention = Favor(19, "favor+", invariances="none", redraws=redraws, seed=5)
    laws.close(attention(query, key, value, causal=causal), wanted)


def test_averaging_draws_averages_numerators_and_denominators_apart():
    query, key, value = laws.heads()
    together = Favor(11, "favor+", invariances="none", redraws=3, seed=2)
    w = draw(11, laws.D, directions="orthogonal", seed=2, redraws=3)
    numerator, denominator = 0.0, 0.0
    for one in w.split(11):
        q, k = (positive_logs(laws.D**-0.25 * x, one).exp() for x in (query, key))
        numerator = numerator + q @ (k.mT @ value)
        denominator = denominator + q @ k.sum(2, keepdim=True).mT
    laws.close(together(query, key, value), numerator / denominator)


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_are_those_of_the_same_map(causal):
    attention = Favor(13, "favor+", invariances="none")
    w = draw(13, laws.D, directions="orthogonal", seed=0)

    def dense(query, key, value, *, key_mask, causal):
        q, k = (positive_logs(laws.D**-0.25 * x, w) for x in (query, key))
        k = k.masked_fill(~key_mask[:, None, :, None], -1e4)
        return feature_attention(q, k, value, causal=causal)

    laws.gradients_are_those_of(attention, dense, causal=causal)


def test_gradients_go_round_what_was_looked_at():
    """With all that is measured held fixed, they are those of finite differences."""
    query, key, value = (x[:1, :1, :5].requires_grad_() for x in laws.heads(queries=5))
    attention = Favor(6, "favor+", invariances="none")
    assert torch.autograd.gradcheck(attention, (query, key, value))
    for choice in ("keys", "centred", "monge"):
        out = Favor(6, invariances=choice)(query, key, value)
        assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), (query, key)))


@pytest.mark.parametrize("kind", ["favor+", "favor#"])
def test_gradients_come_near_those_of_softmax_with_many_features(kind):
    inputs = tuple(x.requires_grad_() for x in small_heads(3, queries=29))
    wanted = torch.autograd.grad(softmax_attention(*inputs).square().sum(), inputs)
    errors = []
    for features in (64, 16_384):
        out = Favor(features, kind)(*inputs)
        got = torch.autograd.grad(out.square().sum(), inputs)
        errors.append(
            max(float((a - b).norm() / b.norm()) for a, b in zip(got, wanted, strict=True))
        )
    assert errors[1] < errors[0] / 8
    assert errors[1] < 0.25


@pytest.mark.parametrize("causal", [False, True])
def test_tiles_and_chunks_change_nothing(causal):
    """Long enough for several tiles of rows and, with many heads, of heads."""
    attention = Favor(128, "favor+", invariances="none")
    parts = [laws.heads(seed, queries=523, keys=2053 if not causal else 523) for seed in range(9)]
    query, key, value = (torch.cat(x, dim=1) for x in zip(*parts, strict=True))
    w = draw(128, laws.D, directions="orthogonal", seed=0)
    got = attention(query, key, value, causal=causal)
    for h in (0, 26):
        q, k = (positive_logs(laws.D**-0.25 * x[:, h], w) for x in (query[:, :, :37], key))
        k, v = (x[:, :37] if causal else x for x in (k, value[:, h]))
        laws.close(got[:, h, :37], feature_attention(q, k, v, causal=causal))


def test_weights_are_unbiased():
    """z-test of one numerator over 4,000 draws, |q+k|² up to about 2."""
    query, key, _ = small_heads(queries=3, keys=4)
    q, k = laws.D**-0.25 * query[0, 0], laws.D**-0.25 * key[0, 0]
    w = draw(16, laws.D, directions="orthogonal", seed=1, redraws=4_000)
    maps = (positive_logs(x, w).exp().reshape(len(x), -1, 16) for x in (q, k))
    weights = torch.einsum("irm,jrm->rij", *maps) / 16
    error = weights.std(0) / len(weights) ** 0.5
    assert ((weights.mean(0) - (q @ k.mT).exp()).abs() < 4 * error).all()
    assert (q[:, None] + k).square().sum(-1).max() > 1.5


@pytest.mark.parametrize("kind", ["favor+", "favor++", "favor#", "trigonometric"])
def test_error_falls_with_the_root_of_the_number_of_features(kind):
    query, key, value = small_heads(queries=29)
    wanted = softmax_attention(query, key, value)
    counts = [64, 256, 1024, 4096]
    errors = []
    for m in counts:
        runs = [Favor(m, kind, seed=s)(query, key, value) - wanted for s in range(8)]
        errors.append(math.log(torch.stack(runs).square().mean().sqrt()))
    logs = torch.tensor(counts).log2()
    slope = torch.linalg.lstsq(
        torch.stack([logs, torch.ones(4)], 1), torch.tensor(errors)[:, None] / math.log(2)
    ).solution[0]
    assert -0.6 < slope < -0.4


def test_orthogonal_directions_do_not_do_worse_than_independent_ones():
    query, key, value = small_heads(queries=29)
    wanted = softmax_attention(query, key, value)

    def error(directions):
        runs = (Favor(14, "favor+", directions, seed=s)(query, key, value) for s in range(64))
        return torch.stack([(x - wanted).square().mean() for x in runs]).mean()

    assert error("orthogonal") < error("independent")


@pytest.mark.parametrize("kind", ["favor+", "favor++", "favor#"])
@pytest.mark.parametrize("invariances", ["none", "keys", "centred", "monge"])
def test_predicted_variance_is_what_one_feature_varies_by(invariances, kind):
    """Geometric mean over all pairs of 1 + variance / mean², from 8,000 features."""
    query, key, _ = laws.heads(queries=11, keys=13, size=0.1)
    attention = Favor(8_000, kind, "independent", invariances)
    predicted = attention.predicted_variance(query, key)
    # A value of one key and no other gives its weight; one feature at a time its estimates.
    heads = _Heads.of(query, key, None, laws.D**-0.5, attention)
    maps = attention._map(heads)
    keys, log_weight = (x.flatten(0, 1) for x in heads.seen_keys())
    a = query.flatten(0, 1) @ maps.query_directions.mT + maps.offset
    b = keys @ maps.directions.mT + log_weight
    logs = a[:, :, None] + b[:, None]
    one = logs.logsumexp(-1) - math.log(8_000)
    two = (2 * logs).logsumexp(-1) - math.log(8_000)
    measured = (two - 2 * one).mean((1, 2)).expm1().reshape(predicted.shape)
    torch.testing.assert_close(measured, predicted, rtol=0.15, atol=0)


def test_predicted_variance_of_favor_plus_is_the_mean_of_the_sums():
    query, key, _ = laws.heads(size=0.5)
    sums = laws.D**-0.25 * (query[:, :, :, None] + key[:, :, None])
    wanted = sums.square().sum(-1).mean((2, 3)).expm1()
    laws.close(Favor(8, "favor+", invariances="none").predicted_variance(query, key), wanted)


@pytest.mark.parametrize("attention", POSITIVE, ids=name)
def test_logits_of_80_agree_between_dtypes(attention):
    query, key, value = laws.heads(queries=31, keys=37, dtype=torch.float32)
    query = query * (80 / (laws.D**-0.5 * query @ key.mT).abs().amax())
    wanted = attention(query.double(), key.double(), value.double())
    laws.close(attention(query, key, value), wanted, torch.float32, times=20)


def test_causal_rows_survive_a_loud_future():
    """Keys beside which all that came before vanishes, in the middle of a chunk and after others.

    Features of long keys are as small as e^-450, so short keys are the loud ones.
    """
    attention = CAUSAL[0]
    query, key, value = laws.heads(queries=301, keys=301, dtype=torch.float32)
    quiet = torch.cat(
        [
            30 * key[:, :, :201] / key[:, :, :201].norm(dim=-1, keepdim=True) * laws.D**0.25,
            key[:, :, 201:],
        ],
        2,
    )
    got = attention(query, quiet, value, causal=True)
    w = draw(64, laws.D, directions="orthogonal", seed=0)
    q, k = (positive_logs(laws.D**-0.25 * x.double(), w) for x in (query, quiet))
    wanted = feature_attention(q, k, value.double(), causal=True)
    laws.close(got, wanted, torch.float32, times=50)
    without = attention(query[:, :, :201], quiet[:, :, :201], value[:, :, :201], causal=True)
    laws.close(got[:, :, :201], without, torch.float32, times=50)


def test_short_texts_round_as_little_as_long_ones():
    """Fewer tokens than dimensions: some directions hold nothing, and are not blown up."""
    query, key, value = laws.heads(queries=5, keys=5, width=32, dtype=torch.float32)
    noise = 1e-6 * torch.randn(key.shape, generator=torch.Generator().manual_seed(0))
    got = Favor(64)(query, key + noise, value)
    laws.close(got, Favor(64)(query, key, value), torch.float32, times=3)


def test_a_negative_scale_turns_the_queries():
    query, key, value = laws.heads()
    attention = Favor(64)
    laws.close(attention(query, key, value, scale=-0.4), attention(-query, key, value, scale=0.4))


def test_the_usual_arithmetic_feels_padding_and_other_heads():
    """Constants added to features, one maximum for all heads, a mask on values alone: tens of %.

    The same laws that `Favor` passes with the same directions.
    """
    query, key, value = laws.heads(4, queries=40, keys=40, width=32, dtype=torch.float32)
    w = draw(64, 32, directions="orthogonal", seed=0).float()
    generator = torch.Generator().manual_seed(1)
    wild = [
        torch.cat([x, torch.randn(*x.shape[:2], 120, x.shape[3], generator=generator)], 2)
        for x in (key, value)
    ]
    mask = torch.arange(160).expand(2, -1) < 40

    def usual(query, key, value, key_mask=None):
        return performer_attention(query, key, value, key_mask=key_mask, directions=w)

    def moved(attention):
        short = attention(query, key, value)
        return float((attention(query, *wild, key_mask=mask) - short).norm() / short.norm())

    def disturbed(attention):
        loud = tuple(torch.cat([x[:, :1], 4 * x[:, 1:]], 1) for x in (query, key, value))
        alone = attention(query, key, value)[:, :1]
        return float((attention(*loud)[:, :1] - alone).norm() / alone.norm())

    ours = Favor(64, "favor+", invariances="none")
    assert moved(usual) > 0.2
    assert moved(ours) < 1e-5
    assert disturbed(usual) > 0.2
    assert disturbed(ours) < 1e-5


def test_trigonometric_features_need_logits_that_nearly_agree():
    query, key, value = small_heads(queries=29)
    got = Favor(4096, "trigonometric")(query, key, value)
    wanted = softmax_attention(query, key, value)
    assert (got - wanted).norm() < 0.05 * wanted.norm()
    with pytest.raises(ArithmeticError, match="use a positive kind"):
        Favor(64, "trigonometric")(*laws.heads(size=4.0))


def test_trigonometric_features_obey_masks_and_shifts():
    attention = Favor(4096, "trigonometric")
    query, key, value = small_heads()
    mask = laws.some_mask()
    mask[0] = False
    got = attention(query, key, value, key_mask=mask)
    assert (got[0] == 0).all()
    laws.close(got[1:], attention(query[1:], key[1:], value[1:], key_mask=mask[1:]))
    laws.close(attention(query, key + 1, value), attention(query, key, value))


def test_redrawn_directions_are_others():
    query, key, value = laws.heads()
    attention = Favor(64)
    other = attention.redrawn(1)
    assert other == Favor(64, seed=1)
    assert not torch.equal(attention(query, key, value), other(query, key, value))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "favor"}, "must be one of favor"),
        *(({name: "qr"}, f"{name} is 'qr'") for name in ("directions", "invariances")),
        ({"features": 0}, "features is 0"),
        ({"redraws": 0}, "redraws is 0"),
        ({"features": 7, "directions": "paired"}, "pass an even number"),
        ({"spread": 2.0}, "goes with 'favor\\+\\+' only"),
        ({"kind": "favor++", "spread": -1.0}, "not below 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Favor(**settings)


@pytest.mark.parametrize(
    "attention",
    [Favor(8), Favor(8, "favor+", invariances="keys"), Favor(8, "favor++", invariances="none")],
    ids=name,
)
def test_settings_that_look_at_the_whole_text_cannot_be_causal(attention):
    with pytest.raises(ValueError, match="cannot be causal"):
        attention(*laws.heads(queries=29), causal=True)


def test_shapes_that_do_not_fit_are_refused_in_favor_s_name():
    with pytest.raises(ValueError, match="Favor: query, key and value"):
        Favor()(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))
