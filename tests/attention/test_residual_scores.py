import pytest
import torch

from attention import laws
from attention.test_residual import LAYERS, H, read_all, stack
from unabridged.attention.favor import Favor
from unabridged.attention.multipole import Multipole
from unabridged.attention.residual import Residual
from unabridged.attention.residual_scores import Factors, compress, predicted_log_variance


def plain(queries=23, keys=29, layers=LAYERS, width=3):
    parts = stack(queries, keys, layers=layers, width=width)
    return [[x.detach() for x in part] for part in parts[:3]]


def outputs_at(rank, parts, **options):
    gates = [1.0] * LAYERS
    with torch.no_grad():
        wanted = read_all(Residual("materialised"), *parts, gates, **options)
        got = read_all(Residual("compressed", rank=rank), *parts, gates, **options)
    return got, wanted


def test_a_rank_of_all_widths_is_exact():
    got, wanted = outputs_at(3 * LAYERS, plain())
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_compressing_to_the_full_rank_with_masks_is_exact():
    """One more column than the sum of widths never needs an SVD; one fewer always does."""
    query, key = (x[0] for x in plain(layers=1, width=9)[:2])
    mask = torch.ones(len(key), key.shape[2], dtype=torch.bool)
    mask[0, 20:] = False
    left, right, _ = compress(query, key, 9, key_mask=mask)
    exact = (query @ key.mT).masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)
    got = (left @ right.mT).masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)
    torch.testing.assert_close(got, exact, rtol=0, atol=1e-12)


def test_the_error_falls_with_rank_and_is_there_below_full_rank():
    errors = []
    for rank in (2, 4, 6, 8):
        got, wanted = outputs_at(rank, plain())
        errors.append(float((got[-1] - wanted[-1]).norm() / wanted[-1].norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] > 1e-3


def test_the_mean_key_costs_no_rank():
    query, key = (x[0] for x in plain(layers=1, width=5)[:2])
    shifted = key + 100 * torch.ones(5, dtype=key.dtype)
    for a, b in zip(compress(query, key, 3), compress(query, shifted, 3), strict=True):
        torch.testing.assert_close(a.abs(), b.abs(), rtol=0, atol=1e-9)


def test_compressed_refuses_a_gradient():
    query, key, value = laws.heads()
    _, first = Residual("compressed", rank=7).read(query, key, value)
    with pytest.raises(NotImplementedError, match="has no gradient"):
        Residual("compressed", rank=7)(query.requires_grad_(), key, value, earlier=first)


def test_rank_zero_is_refused():
    query, key, _ = laws.heads()
    with pytest.raises(ValueError, match="rank: got 0"):
        compress(query, key, 0)


def test_factors_refer_to_earlier_layers_and_copy_nothing():
    queries, keys, _ = plain(layers=2)
    two = Factors.of(queries[0], keys[0]).then(queries[1], keys[1], 0.5)
    assert two.queries[0] is queries[0]
    assert two.keys[0] is keys[0]
    torch.testing.assert_close(two.weights, torch.tensor([[0.5] * H, [1.0] * H]).double())


def test_scores_of_concatenated_factors_are_the_gated_sum():
    queries, keys, _ = plain()
    gates = [torch.full((H,), g, dtype=torch.float64) for g in (0.0, 0.3, -2.0)]
    factors = Factors.of(queries[0], keys[0])
    for layer in (1, 2):
        factors = factors.then(queries[layer], keys[layer], gates[layer])
    one, two, three = (q @ k.mT for q, k in zip(queries, keys, strict=True))
    left, right = factors.concatenated()
    torch.testing.assert_close(left @ right.mT, three - 2.0 * (two + 0.3 * one))


def test_variance_of_positive_features_is_as_predicted():
    """Monte Carlo: the relative spread of exp(w·q - |q|²/2) exp(w·k - |k|²/2)."""
    g = torch.Generator().manual_seed(0)
    queries, keys = (0.3 * torch.randn(2, 1, 1, 4, 3, generator=g).double() for _ in range(2))
    factors = Factors.of(queries[0], keys[0]).then(queries[1], keys[1], 1.0)
    q, k = factors.concatenated()
    w = torch.randn(400_000, q.shape[-1], generator=g, dtype=torch.float64)
    features = [
        torch.exp(x[0, 0] @ w.T - x[0, 0].square().sum(-1, keepdim=True) / 2) for x in (q, k)
    ]
    products = features[0][:, None] * features[1][None]  # (Nq, Nk, draws)
    spread = products.var(-1) / products.mean(-1).square()
    predicted = predicted_log_variance(factors, 1, scale=1.0)[0, 0].exp()
    torch.testing.assert_close(spread, predicted, rtol=0.1, atol=0)


def test_variance_multiplies_with_depth():
    queries, keys, _ = plain()
    factors = Factors.of(queries[0], keys[0])
    grown = [predicted_log_variance(factors, 64).median()]
    for layer in (1, 2):
        factors = factors.then(queries[layer], keys[layer], 1.0)
        grown.append(predicted_log_variance(factors, 64).median())
    assert grown[1] - grown[0] > 1
    assert grown[2] - grown[1] > 1


def test_variance_of_a_negative_gate_is_refused():
    queries, keys, _ = plain(layers=2)
    factors = Factors.of(queries[0], keys[0]).then(queries[1], keys[1], -1.0)
    with pytest.raises(ValueError, match="a gate is negative"):
        predicted_log_variance(factors, 64)


def test_multipole_reads_concatenated_scores():
    parts = [[x.detach() for x in part] for part in stack(97, 97, layers=3, width=3)]
    settings = {"block": 8, "group": 8, "shared": 4, "short": 0}
    wanted = read_all(Residual(), *parts)[-1]
    exact, near = (
        read_all(Residual("concatenated", attention=Multipole(near=n, **settings)), *parts)[-1]
        for n in ("all", 48)
    )
    torch.testing.assert_close(exact, wanted, rtol=0, atol=1e-10)
    error = (near - wanted).norm() / wanted.norm()
    assert 1e-6 < error < 0.3


def test_random_features_read_concatenated_scores_worse_with_depth():
    """Mean over seeds of the squared error, of one layer and of four."""
    queries, keys, values = ([x * 0.7 for x in part] for part in plain(31, 31, layers=4, width=4))
    errors = []
    for layers in (1, 4):
        parts = [part[:layers] for part in (queries, keys, values)]
        gates = [1.0] * layers
        wanted = read_all(Residual(), *parts, gates)[-1]
        found = [
            read_all(
                Residual("concatenated", attention=Favor(features=32, kind="favor+", seed=s)),
                *parts,
                gates,
            )[-1]
            for s in range(5)
        ]
        errors.append(float(sum((x - wanted).square().mean() for x in found)))
    assert errors[1] > 2 * errors[0]


def test_masked_keys_take_no_part_in_the_factors():
    query, key = (x[0] for x in plain(layers=1, width=5)[:2])
    mask = torch.arange(29).expand(len(key), -1) < 20
    wild = torch.cat([key[:, :, :20], 50 * key[:, :, 20:]], dim=2)
    left, right, _ = compress(query, wild, 3, key_mask=mask)
    alone = compress(query, key[:, :, :20], 3)
    torch.testing.assert_close(left @ right[:, :, :20].mT, alone[0] @ alone[1].mT)
