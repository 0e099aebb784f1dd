import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from attention import laws
from reference_attention import softmax_attention
from unabridged.attention.exact import Exact

# Tiles of 5 against 17 and 29 rows: whole tiles, rests, and a boundary in every place.
TILED = Exact(tile=5, kernel="tiled")
MEMBERS = pytest.mark.parametrize("attention", [TILED, Exact()], ids=["tiled", "auto"])


@MEMBERS
@pytest.mark.parametrize("law", laws.SOFTMAX_LAWS + laws.CAUSAL_LAWS, ids=lambda f: f.__name__)
def test_exact_obeys(law, attention):
    law(attention)


@MEMBERS
def test_exact_does_not_feel_a_change_of_basis(attention):
    laws.a_change_of_basis_changes_nothing(attention)


@MEMBERS
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_exact_equals_the_formula(attention, dtype, causal):
    laws.equals_softmax(attention, dtype, causal=causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_tiles_equal_torch(dtype, bound, causal):
    query, key, value = laws.heads(queries=211, keys=211, width=11, value_width=11, dtype=dtype)
    wanted = scaled_dot_product_attention(query, key, value, is_causal=causal)
    got = Exact(tile=47, kernel="tiled")(query, key, value, causal=causal)
    torch.testing.assert_close(got, wanted, rtol=bound, atol=bound)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("queries", [11, 29, 31])
@pytest.mark.parametrize("mask", ["none", "some", "one text all masked"])
def test_auto_hands_over_only_what_comes_out_the_same(mask, queries, causal):
    """Values as wide as keys, where torch's kernel is at hand, and where its rules differ."""
    query, key, value = laws.heads(queries=queries, value_width=laws.D)
    key_mask = None if mask == "none" else laws.some_mask()
    if mask == "one text all masked":
        key_mask[0] = False
    options = {"key_mask": key_mask, "causal": causal}
    laws.close(Exact()(query, key, value, **options), TILED(query, key, value, **options))
    laws.close(TILED(query, key, value, **options), softmax_attention(query, key, value, **options))


@pytest.mark.parametrize("tile", [1, 7, 29, 64])
def test_the_size_of_tiles_changes_nothing(tile):
    laws.equals_softmax(Exact(tile=tile, kernel="tiled"))
    laws.equals_softmax(Exact(tile=tile, kernel="tiled"), causal=True)


@MEMBERS
@pytest.mark.parametrize("causal", [False, True])
def test_gradients_of_tiles_equal_autograd_of_the_formula(attention, causal):
    laws.gradients_are_those_of(attention, softmax_attention, causal=causal)


def test_tiles_pass_gradcheck():
    inputs = tuple(x[:1, :1].requires_grad_() for x in laws.heads(queries=3, keys=5, width=2))
    assert torch.autograd.gradcheck(TILED, inputs)


def test_logits_of_80_agree_between_dtypes():
    query, key, value = laws.heads(queries=31, keys=37, dtype=torch.float32)
    query = query * (80 / (laws.D**-0.5 * query @ key.mT).abs().amax())
    wanted = TILED(query.double(), key.double(), value.double())
    laws.close(TILED(query, key, value), wanted, torch.float32)


class LargestTensor(TorchDispatchMode):
    """Watches every operation, forward and backward, for the largest tensor it returns."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


@pytest.mark.parametrize("tile", [32, 512])
def test_tiles_hold_no_matrix_of_queries_by_keys(tile):
    """The largest tensor of forward and backward is a tile, n x n only where a tile is that."""
    inputs = tuple(torch.randn(1, 1, 512, 2, requires_grad=True) for _ in range(3))
    with LargestTensor() as watch:
        Exact(tile=tile, kernel="tiled")(*inputs).sum().backward()
    assert watch.numel == max(tile * tile, 512 * 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": torch.zeros(2, 3, 5)}, "split the heads first"),
        ({"key": torch.zeros(2, 3, 7, 3)}, r"must be \(B, H, Nq, D\)"),
        ({"value": torch.zeros(2, 3, 6, 4)}, "with at least one key"),
        ({"key_mask": torch.ones(2, 6, dtype=torch.bool)}, "one flag a key"),
        ({"scale": float("nan")}, "scale is nan"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, message):
    fitting = {"query": torch.zeros(2, 3, 5, 4), "key": torch.zeros(2, 3, 7, 4)}
    arguments = {**fitting, "value": torch.zeros(2, 3, 7, 4), **change}
    with pytest.raises(ValueError, match=message):
        Exact()(**arguments)


def test_dtypes_that_do_not_fit_are_refused():
    x = torch.zeros(2, 3, 5, 4)
    with pytest.raises(TypeError, match="convert them first"):
        Exact()(x, x.double(), x)
    with pytest.raises(TypeError, match=r"pass mask.bool\(\)"):
        Exact()(x, x, x, key_mask=torch.ones(2, 5))


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="tile is 0"):
        Exact(tile=0)
    with pytest.raises(ValueError, match="kernel is 'fast'"):
        Exact(kernel="fast")
