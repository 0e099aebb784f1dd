import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from attention import laws
from reference_residual import residual_attention
from unabridged.attention.exact import Exact
from unabridged.attention.residual import Residual
from unabridged.attention.residual_scores import Factors

B, H, NQ, NK, D, DV, LAYERS = 3, 5, 7, 11, 2, 13, 3

EXACT_MODES = {
    "materialised": Residual("materialised"),
    "tiled": Residual(),
    "tiles of three rows": Residual(tile=3 * NK),
    "tiles of some heads": Residual(tile=2 * NQ * NK),
    "concatenated": Residual("concatenated", attention=Exact(tile=5)),
}
EXACT = pytest.mark.parametrize("residual", EXACT_MODES.values(), ids=EXACT_MODES.keys())


def stack(queries=NQ, keys=NK, layers=LAYERS, width=D, seed=0):
    """Queries, keys, values of each layer, and a gate for every head of every layer."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64, requires_grad=True)  # noqa: E731
    parts = [
        [draw(B, H, n, w) for _ in range(layers)]
        for n, w in ((queries, width), (keys, width), (keys, DV))
    ]
    return (*parts, [draw(H) for _ in range(layers)])


def read_all(residual, queries, keys, values, gates, **options):
    earlier, outputs = None, []
    for layer, (q, k, v, gate) in enumerate(zip(queries, keys, values, gates, strict=True)):
        seed = {"seed": layer} if residual.dropout else {}
        mixed, earlier = residual.read(q, k, v, earlier=earlier, gate=gate, **options, **seed)
        outputs.append(mixed)
    return outputs


def mask_of(keys=NK):
    mask = torch.rand(B, keys, generator=torch.Generator().manual_seed(9)) > 0.4
    mask[1] = False
    return mask


def gradients(outputs, inputs):
    g = torch.Generator().manual_seed(4)
    loss = sum((o * torch.randn(o.shape, generator=g, dtype=o.dtype)).sum() for o in outputs)
    return torch.autograd.grad(loss, inputs)


def flat(queries, keys, values, gates):
    return [*queries, *keys, *values, *gates[1:]]  # the first layer has nothing to weigh


@EXACT
@pytest.mark.parametrize("law", laws.SOFTMAX_LAWS + laws.CAUSAL_LAWS, ids=lambda f: f.__name__)
def test_one_layer_is_attention(law, residual):
    law(residual)


@EXACT
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("lengths", [(NQ, NK), (NK, NQ), (NK, NK)], ids=["cross", "long", "self"])
def test_outputs_and_gradients_are_those_of_summed_scores(residual, causal, masked, lengths):
    parts = stack(*lengths)
    options = {"key_mask": mask_of(lengths[1]) if masked else None, "causal": causal}
    got = read_all(residual, *parts, **options)
    queries, keys, values, gates = parts
    wanted = residual_attention(queries, keys, values, gates=gates, **options)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    pairs = zip(gradients(got, flat(*parts)), gradients(wanted, flat(*parts)), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@EXACT
def test_gate_zero_is_plain_attention(residual):
    queries, keys, values, _ = stack()
    got = read_all(residual, queries, keys, values, [0.0] * LAYERS)
    for layer in range(LAYERS):
        plain = Exact()(queries[layer], keys[layer], values[layer])
        torch.testing.assert_close(got[layer], plain, rtol=0, atol=1e-12)


@EXACT
def test_a_gate_at_zero_has_a_slope(residual):
    queries, keys, values, _ = stack()
    gates = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(LAYERS)]
    outputs = read_all(residual, queries, keys, values, gates)
    assert all(slope.abs() > 1e-3 for slope in gradients(outputs, gates[1:]))


def test_the_default_scale_after_concatenation_is_wrong():
    """Trap one: 1 / sqrt(n d) instead of 1 / sqrt(d)."""
    queries, keys, values, _ = stack()
    right = read_all(Residual(), queries, keys, values, [1.0] * LAYERS)[-1]
    joined = torch.cat(queries, -1), torch.cat(keys, -1)
    given = scaled_dot_product_attention(*joined, values[-1], scale=D**-0.5)
    torch.testing.assert_close(given, right, rtol=0, atol=1e-12)
    default = scaled_dot_product_attention(*joined, values[-1])
    assert (default - right).abs().max() > 0.1


def test_summed_queries_and_keys_are_wrong():
    """Trap two: (sum of Q)(sum of K)' has products of different layers."""
    queries, keys, values, _ = stack()
    right = read_all(Residual(), queries, keys, values, [1.0] * LAYERS)[-1]
    summed = Exact()(sum(queries), sum(keys), values[-1])
    assert (summed - right).abs().max() > 0.1


def test_masks_are_no_part_of_what_is_handed_on():
    """Masks as transformers adds them, the least finite number, overflow when summed."""
    smallest = torch.finfo(torch.float32).min
    assert torch.tensor(smallest) + torch.tensor(smallest) == -torch.inf
    query, key, value = (x.float().detach() for x in laws.heads())
    mask = torch.zeros(laws.B, laws.NK, dtype=torch.bool)
    earlier = None
    for _ in range(2):
        mixed, earlier = Residual("materialised").read(
            query, key, value, earlier=earlier, key_mask=mask
        )
    assert torch.equal(mixed, torch.zeros_like(mixed))
    assert earlier.scores.isfinite().all()


def test_the_first_layers_scores_receive_the_signal_of_every_layer():
    """dLoss/dA_1 is the sum over layers of their own softmaxes' parts."""
    slopes = []
    for shares in ((1, 1), (1, 0), (0, 1)):
        queries, keys, values, _ = stack(layers=2)
        outputs = read_all(Residual(), queries, keys, values, [1.0, 1.0])
        weighted = [share * each for share, each in zip(shares, outputs, strict=True)]
        slopes.append(gradients(weighted, [queries[0]])[0])
    both, first, second = slopes
    torch.testing.assert_close(both, first + second)
    assert second.abs().max() > 1e-3


def test_tiled_passes_gradcheck():
    queries, keys, values, gates = stack(queries=3, keys=5, layers=2)
    few = [x[:1, :1, :, :2].detach().requires_grad_() for x in (*queries, *keys, values[1])]
    gate = gates[1][:1].detach().requires_grad_()

    def second_layer(q1, q2, k1, k2, v, gate):
        _, first = Residual(tile=5).read(q1, k1, v)
        return Residual(tile=5)(q2, k2, v, earlier=first, gate=gate, causal=True)

    assert torch.autograd.gradcheck(second_layer, (*few, gate))


@pytest.mark.parametrize("tile", [1, 2 * NK, 3 * NQ * NK, 1 << 20])
def test_dropout_drops_the_same_pairs_whatever_the_tiles(tile):
    parts = stack()
    runs = [
        read_all(r, *parts, key_mask=mask_of())
        for r in (Residual("materialised", dropout=0.3), Residual(tile=tile, dropout=0.3))
    ]
    for a, b in zip(*runs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    for a, b in zip(*(gradients(run, flat(*parts)) for run in runs), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_dropout_keeps_its_share_and_the_mean():
    query, key, _ = (x.detach() for x in laws.heads(queries=211, keys=199))
    ones = torch.ones(*key.shape[:3], 1, dtype=key.dtype)
    mixed = torch.stack([Residual(dropout=0.25)(query, key, ones, seed=s) for s in range(20)])
    assert mixed.std() > 0.01
    assert abs(mixed.mean() - 1) < 4 * mixed.std() / mixed.numel() ** 0.5
    assert torch.equal(mixed[3], Residual(dropout=0.25)(query, key, ones, seed=3))


@pytest.mark.parametrize("mode", ["materialised", "tiled"])
def test_gradient_checkpointing_changes_nothing(mode):
    residual = Residual(mode, dropout=0.2)
    parts = stack(queries=NK)

    def layer(q, k, v, gate, number, *carried):
        earlier = _carried(mode, carried)
        mixed, after = residual.read(q, k, v, earlier=earlier, gate=gate, seed=number)
        return mixed, *_parts(after)

    def run(call):
        carried, outputs = (), []
        for number, each in enumerate(zip(*parts, strict=True)):
            mixed, *carried = call(layer, *each, number, *carried)
            outputs.append(mixed)
        return gradients(outputs, flat(*parts))

    plain = run(lambda function, *given: function(*given))
    lean = run(lambda function, *given: checkpoint(function, *given, use_reentrant=False))
    for a, b in zip(plain, lean, strict=True):
        assert torch.equal(a, b)


def _parts(carried):
    if isinstance(carried, Factors):
        return carried.weights, *carried.queries, *carried.keys
    return (carried.scores,)


def _carried(mode, parts):
    from unabridged.attention.residual_scores import Total

    if not parts:
        return None
    if mode == "materialised":
        return Total(*parts)
    weights, *factors = parts
    half = len(factors) // 2
    return Factors(tuple(factors[:half]), tuple(factors[half:]), weights)


def test_tiled_memory_is_linear_in_length():
    """No tensor of Nq x Nk scores is ever made, forward or backward."""
    n, seen = 1031, []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                seen.append(out.numel())
            return out

    q, k, v = (torch.randn(1, 2, n, 3, requires_grad=True) for _ in range(3))
    residual = Residual(tile=16 * n)
    with Watch():
        _, first = residual.read(q, k, v)
        residual(q, k, v, earlier=first).sum().backward()
    assert max(seen) <= 16 * n


def test_another_modes_scores_are_refused():
    q, k, v = (x.detach() for x in laws.heads())
    _, scores = Residual("materialised").read(q, k, v)
    with pytest.raises(ValueError, match="earlier: is Total, wanted Factors"):
        Residual()(q, k, v, earlier=scores)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mode": "summed"}, "mode: got 'summed', wanted one of materialised"),
        ({"mode": "compressed"}, "rank: belongs to mode 'compressed'"),
        ({"rank": 3}, "rank: belongs to mode 'compressed'"),
        ({"mode": "concatenated"}, "attention: belongs to mode 'concatenated'"),
        ({"dropout": 1.0}, "dropout: got 1.0"),
        ({"mode": "compressed", "rank": 3, "dropout": 0.1}, "never forms the probabilities"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Residual(**settings)
