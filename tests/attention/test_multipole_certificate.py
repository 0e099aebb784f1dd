import pytest
import torch

from attention import laws
from attention.test_multipole import ALL, AUTO, SMALL, clustered
from reference_attention import softmax_attention
from unabridged.attention.multipole import Multipole
from unabridged.attention.multipole.choice import misses
from unabridged.attention.multipole.far import value_correction
from unabridged.attention.multipole.head import Field, look
from unabridged.attention.multipole.plan import Head, Sizes


def off(attention, query, key, value):
    exact = softmax_attention(query, key, value)
    return (attention(query, key, value) - exact).norm(dim=-1)


@pytest.mark.parametrize("attention", [SMALL, AUTO], ids=["small", "auto"])
@pytest.mark.parametrize("size", [0.1, 1.0, 9.0])
def test_no_row_errs_more_than_its_certificate(attention, size):
    heads = laws.heads(31, queries=37, keys=53, size=size)
    assert (off(attention, *heads) <= attention.certificate(*heads) + 1e-12).all()


@pytest.mark.parametrize("seed", [1, 2])
def test_certificates_hold_on_clusters_and_say_something(seed):
    heads = clustered(seed, 307)
    attention = Multipole(near=128, block=8, group=4, shared=4, short=0)
    error, bound = off(attention, *heads), attention.certificate(*heads)
    assert (error <= bound).all()
    assert bound.median() < 0.5 * heads[2].norm(dim=-1).median()


def test_certificates_shrink_with_the_logits():
    """Second order in δ: logits halved twice make the bound some four times smaller or better."""
    query, key, value = laws.heads(32, queries=37, keys=53, size=0.1)
    one, other = (SMALL.certificate(q, key, value).mean() for q in (query, query / 4))
    assert other < one / 3


def test_exact_rows_have_certificate_zero():
    heads = laws.heads(33)
    assert (ALL.certificate(*heads) < 1e-12).all()
    assert (Multipole().certificate(*heads) == 0).all()


def test_constant_values_have_certificate_zero():
    query, key, value = laws.heads(34)
    constant = value[:, :, :1].expand_as(value)
    assert (SMALL.certificate(query, key, constant) < 1e-12).all()


def test_a_certificate_equals_the_formula_written_out():
    """One head, one group at a time, ranges and weights over single keys."""
    query, key, value = (part[:1, :1] for part in laws.heads(35, queries=23, keys=37, size=0.3))
    scaled = query[0] * laws.D**-0.5
    (decided,) = SMALL.decisions(scaled, key[0], value[0])
    one = decided.choice
    field = Field.of(one.plan, one.blocks, one.near, torch.float64)
    keys, values = one.plan.pairs.tensor_split([laws.D], dim=-1)
    own_keys, own_values = one.plan.shared.tensor_split([laws.D], dim=-1)
    everything = torch.cat([values.flatten(0, 1), own_values])
    slots = []
    for group in one.plan.groups:
        seen = look(group.mean(0)[None], field)
        offsets, expansion = group - group.mean(0), seen.expansion
        far = torch.ones(keys.shape[:2], dtype=torch.bool)
        far.view(-1)[seen.met[0]] = False
        moved = value_correction(offsets[None], expansion, one.blocks)[0].norm(dim=-1)
        for q, delta, correction in zip(group, offsets, moved, strict=True):
            g = ((delta @ one.blocks.axes).square() @ one.blocks.variances.T / 2).clamp_max(1)
            first = expansion.log_weights[0] + expansion.means[0, :, : laws.D] @ delta
            used = (first + g).exp()
            met = ((keys @ q).exp() * ~far).sum() + (own_keys @ q).exp().sum()
            w = used / (used.sum() + met)
            along = keys @ delta
            R = along.masked_fill(~far, -torch.inf).amax(1) - along.masked_fill(
                ~far, torch.inf
            ).amin(1)
            R = R.clamp_min(0)
            rho = torch.stack([-g, R**2 / 8 - g]).exp()
            E, F = (w * (rho - 1).abs().amax(0)).sum(), (w * (1 - rho[0])).sum()
            inside = width(values) * (R / 4).tanh() + correction
            slots.append(width(everything) * (E / (1 - F)).clamp_max(1) + (w * inside).sum())
    head = Head(scaled[0], key[0, 0], value[0, 0], Sizes(4, 3, 2))
    wanted = torch.stack(slots)[one.plan.places] + misses(head, one).mean(0).norm()
    torch.testing.assert_close(SMALL.certificate(query, key, value)[0, 0], wanted)


def width(values):
    """The smaller of two bounds on the largest distance between values (..., N, Dv)."""
    ball = 2 * (values - values.mean(-2, keepdim=True)).norm(dim=-1).amax(-1)
    return ball.minimum((values.amax(-2) - values.amin(-2)).norm(dim=-1))
