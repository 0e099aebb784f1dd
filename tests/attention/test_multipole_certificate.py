import pytest

from attention import laws
from attention.test_multipole import ALL, AUTO, SMALL, clustered
from reference_attention import softmax_attention
from unabridged.attention.multipole import Multipole


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
