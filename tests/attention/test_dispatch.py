from __future__ import annotations

import pytest
import torch

from attention import laws
from unabridged.attention.dispatch import Auto
from unabridged.attention.exact import Exact
from unabridged.attention.favor import Favor
from unabridged.attention.multipole import Multipole
from unabridged.attention.receipts import head_receipts
from unabridged.attention.sampling import relative_error, sampled_rows

H, N, D, DV = 5, 211, 7, 3
SMALL = Multipole(near=8, block=8, group=8, shared=2, short=0)
CRUDE = Multipole(near=1, block=64, group=64, shared=1, short=0)
AUTO = Auto(short=100, multipole=SMALL)


def heads(sizes=(1.0,) * H, texts=1, seed=0, length=N):
    """Heads of different size: from flat attention to sharp."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor(sizes)[:, None, None]
    query, key = (size * torch.randn(texts, H, length, D, generator=generator) for _ in range(2))
    return query, key, torch.randn(texts, H, length, DV, generator=generator)


def test_a_short_text_is_exact_and_says_so():
    decision = Auto(short=N).decide(*heads())
    assert decision.chosen == (("exact",) * H,)
    torch.testing.assert_close(decision.mixed, Exact()(*heads()), rtol=1e-6, atol=1e-6)


def test_a_long_text_is_not():
    decision = Auto(short=N - 1, tolerance=1.0, multipole=CRUDE).decide(*heads())
    assert "exact" not in decision.chosen[0]
    assert not torch.allclose(decision.mixed, Exact()(*heads()), rtol=1e-6, atol=1e-6)


def test_each_head_takes_what_suits_it():
    """Flat heads are foretold to suffer random features, sharp ones only the tree, wild none."""
    auto = Auto(short=100, tolerance=0.05, favor=Favor(features=1024), multipole=SMALL)
    sizes = (0.1, 0.2, 1.3, 1.5, 9.0)
    chosen = auto.decide(*heads(sizes)).chosen[0]
    assert chosen[:2] == ("favor", "favor")
    assert "favor" not in chosen[2:]
    assert (
        "multipole"
        in Auto(short=100, tolerance=0.4, multipole=SMALL).decide(*heads(sizes)).chosen[0]
    )


@pytest.mark.parametrize("tolerance", [0.3, 0.1, 0.03, 0.0])
def test_no_tested_row_is_worse_than_the_tolerance(tolerance):
    auto = Auto(short=100, tolerance=tolerance, multipole=SMALL)
    query, key, value = heads((0.1, 0.5, 1.0, 2.0, 5.0))
    decision = auto.decide(query, key, value)
    rows = sampled_rows(N, auto.rows, seed=auto.seed)
    wanted = Exact()(query[:, :, rows], key, value)
    error = relative_error(decision.mixed[:, :, rows], wanted)
    assert (error <= tolerance + 1e-6).all()
    approximate = torch.tensor([[name != "exact" for name in decision.chosen[0]]])
    torch.testing.assert_close(decision.errors[approximate], error[approximate])


def test_a_smaller_tolerance_takes_more_exact_heads():
    sizes = (0.1, 0.5, 1.0, 2.0, 5.0)
    counts = [
        Auto(short=100, tolerance=tolerance, multipole=CRUDE)
        .decide(*heads(sizes))
        .chosen[0]
        .count("exact")
        for tolerance in (1.0, 0.1, 0.0)
    ]
    assert counts[0] < counts[1] < counts[2] == H


def test_every_head_gets_its_own_values_back_in_its_own_place():
    """Values that name their head: a mixture that lands in another one would show."""
    query, key, _ = heads((0.1, 1.3, 0.1, 9.0, 1.3))
    value = torch.arange(H).view(1, H, 1, 1).expand(1, H, N, DV).float()
    got = Auto(short=100, tolerance=0.05, multipole=SMALL)(query, key, value)
    torch.testing.assert_close(got, value, rtol=1e-5, atol=1e-5)


def test_a_text_decides_by_itself():
    query, key, value = heads((0.1, 0.5, 1.0, 2.0, 5.0), texts=2)
    together = AUTO.decide(query, key, value)
    for i in range(2):
        alone = AUTO.decide(query[i : i + 1], key[i : i + 1], value[i : i + 1])
        assert alone.chosen[0] == together.chosen[i]
        torch.testing.assert_close(alone.mixed[0], together.mixed[i], rtol=1e-5, atol=1e-5)


def test_padding_moves_neither_choice_nor_values():
    query, key, value = heads((0.1, 0.5, 1.0, 2.0, 5.0))
    mask = torch.arange(N)[None] < 150
    padded = AUTO.decide(query, key, value, key_mask=mask)
    short = AUTO.decide(*(part[:, :, :150] for part in (query, key, value)))
    assert padded.chosen == short.chosen
    torch.testing.assert_close(padded.errors, short.errors, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(padded.mixed[:, :, :150], short.mixed, rtol=1e-5, atol=1e-5)


def test_a_short_text_beside_a_long_one_is_exact():
    query, key, value = heads((0.1, 0.5, 1.0, 2.0, 5.0), texts=2)
    mask = torch.arange(N)[None] < torch.tensor([[N], [90]])
    decision = AUTO.decide(query, key, value, key_mask=mask)
    assert decision.chosen[1] == ("exact",) * H
    assert decision.chosen[0] != ("exact",) * H


def test_causal_attention_is_exact():
    query, key, value = heads()
    wanted = Exact()(query, key, value, causal=True)
    torch.testing.assert_close(AUTO(query, key, value, causal=True), wanted)


def test_gradients_pass_through_the_parts():
    query, key, value = (part.requires_grad_() for part in heads((0.1, 0.5, 1.0, 2.0, 5.0)))
    AUTO(query, key, value).square().sum().backward()
    assert all(part.grad.abs().amax((0, 2, 3)).min() > 0 for part in (query, key, value))


def test_receipts_tell_what_was_chosen():
    query, key, value = heads((0.1, 0.5, 1.0, 2.0, 5.0))
    receipts = head_receipts(AUTO, query, key, value, rows=torch.arange(N))
    assert tuple(head.chosen for head in receipts) == AUTO.decide(query, key, value).chosen[0]


@pytest.mark.parametrize("law", laws.SOFTMAX_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("auto", [Auto(), Auto(short=5, multipole=SMALL)], ids=["default", "small"])
def test_laws_of_attention(law, auto):
    law(auto)


@pytest.mark.parametrize("tolerance", [-0.1, float("nan")])
def test_a_tolerance_below_nothing_is_refused(tolerance):
    with pytest.raises(ValueError, match="must be a number not below 0"):
        Auto(tolerance=tolerance)


def test_nothing_to_test_is_refused():
    with pytest.raises(ValueError, match="rows is 0"):
        Auto(rows=0)
