"""Sign codes: exact intervals, the biased cosine of signs, the scan, and proofs of top-k."""

import numpy as np
import pytest
import torch

import reference_projection as reference
from unabridged.geometry.random_projection import haar_rows
from unabridged.geometry.sign_codes import SignCodes, cosine_from_hamming
from unabridged.geometry.sign_planes import disagreement, pack, quantise, unpack
from unabridged.geometry.sign_probing import (
    bucket_rows,
    collision_probability,
    probe_sequence,
    probe_success,
)
from unabridged.geometry.sign_search import certified_top_k, top_k
from unabridged.geometry.sphere import coordinate_quantile, coordinate_tail

D = 67


def adversarial(dimension):
    """One spike, two spikes, a flat vector, a vector of growing entries, zero, and a near copy."""
    rows = np.zeros((6, dimension))
    rows[0, 0] = 1
    rows[1, :2] = [1, -1]
    rows[2] = 0.1
    rows[3] = np.arange(dimension)
    rows[5] = rows[3] + 1e-3
    return rows


@pytest.mark.parametrize("dimension", [2, 3, 17, 383])
@pytest.mark.parametrize("t", [0.0, 0.05, 0.3, 0.9])
def test_coordinate_tail_is_students(dimension, t):
    wanted = reference.coordinate_tail(t, dimension)
    assert coordinate_tail(t, dimension) == pytest.approx(wanted, rel=1e-6, abs=1e-30)


@pytest.mark.parametrize("tail", [0.4, 0.05, 1e-6, 1e-12])
def test_coordinate_quantile_inverts_the_tail(tail):
    t = coordinate_quantile(tail, 63)
    assert reference.coordinate_tail(t, 63) == pytest.approx(tail, rel=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("dimension", [1, 63, 64, 65, 130])
def test_packing_loses_nothing(bits, dimension):
    levels = np.random.default_rng(0).integers(0, 2**bits, (19, dimension)).astype(np.uint8)
    planes = pack(levels, bits)
    assert planes.shape == (bits, -(-dimension // 64), 19)
    np.testing.assert_array_equal(unpack(planes, dimension), reference.code_values(levels, bits))


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("query_bits", [1, 3, 4])
@pytest.mark.parametrize("dimension", [5, 64, 601])
def test_disagreement_is_the_inner_product_of_codes(bits, query_bits, dimension):
    rng = np.random.default_rng(1)
    levels = rng.integers(0, 2**bits, (23, dimension)).astype(np.uint8)
    levels[0] = 2**bits - 1
    query = np.zeros((1, dimension), np.uint8)
    query[:, ::2] = rng.integers(0, 2**query_bits, query[:, ::2].shape)
    planes, query_planes = pack(levels, bits), pack(query, query_bits)[:, :, 0]
    got = disagreement(planes, query_planes, slice(0, 23)).astype(np.int64)
    top = (2**bits - 1) * (2**query_bits - 1) * dimension
    wanted = reference.inner_products_of_codes(levels, query[0], bits, query_bits)
    np.testing.assert_array_equal(top - 2 * got, wanted)


def test_more_bits_follow_the_row_more_closely():
    U = np.random.default_rng(2).standard_normal((50, 256)).astype(np.float32)
    cosines = []
    for bits in (1, 2, 3, 4):
        values = reference.code_values(quantise(U, bits), bits)
        lengths = np.linalg.norm(values, axis=1) * np.linalg.norm(U, axis=1)
        cosines.append(np.mean((values * U).sum(axis=1) / lengths))
    # sqrt(1 - distortion) of the optimal uniform quantisers of a Gaussian (Max 1960).
    np.testing.assert_allclose(cosines, [0.7979, 0.9389, 0.9808, 0.9942], atol=0.003)


def errors_and_misses(X, queries, *, bits, trials, failure, centre=None):
    errors, misses = [], []
    for seed in range(trials):
        codes = SignCodes.encode(X, bits=bits, seed=seed, centre=centre)
        for q in queries:
            got, true = codes.estimate(q, failure=failure), X @ q
            lengths = np.linalg.norm(X - codes.centre, axis=1) * np.linalg.norm(q)
            errors.append((got.value - true) / np.maximum(lengths, 1e-12))
            misses.append((true < got.lower) | (true > got.upper))
    return np.array(errors), np.array(misses)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_intervals_of_adversarial_vectors_have_their_coverage(bits):
    X = adversarial(D)
    queries = [X[0], X[1], np.random.default_rng(3).standard_normal(D)]
    _, misses = errors_and_misses(
        X, queries, bits=bits, trials=500, failure=0.2, centre=np.zeros(D)
    )
    rates = misses.reshape(500, 3, 6).mean(axis=0)  # (queries, rows)
    assert (rates < 0.2 + 4 * np.sqrt(0.16 / 500)).all()
    loose = rates[2, [0, 1, 2, 3]]
    assert (loose > 0.2 - 4 * np.sqrt(0.16 / 500)).all()


def test_bounds_are_where_the_error_is_at_its_quantile():
    rng = np.random.default_rng(8)
    X, q, failure = rng.standard_normal((50, D)), rng.standard_normal(D), 0.3
    codes = SignCodes.encode(X, centre=np.zeros(D))
    got = codes.estimate(q, failure=failure)
    x = coordinate_quantile(failure / 2, D - 1)
    for bound, side in ((got.lower, 1), (got.upper, -1)):
        cross = np.sqrt((q @ q) * codes.length**2 - bound**2)
        np.testing.assert_allclose(
            got.value - bound, side * x * codes.tangent * cross, rtol=1e-3, atol=1e-3
        )


def test_a_row_equal_to_the_query_is_estimated_exactly():
    X = adversarial(D)
    for q in (X[0], X[1], X[3]):
        codes = SignCodes.encode(X, centre=np.zeros(D))
        got, row = codes.estimate(q), int(np.argmax(X @ q / (np.linalg.norm(X, axis=1) + 1e-9)))
        assert got.value[row] == pytest.approx(q @ q, rel=1e-5)
        assert got.lower[row] <= q @ q <= got.upper[row]


@pytest.mark.parametrize("bits", [1, 3])
def test_estimates_are_unbiased(bits):
    rng = np.random.default_rng(4)
    X = rng.standard_normal((40, D)) + 1
    X[:6] = adversarial(D)
    errors, _ = errors_and_misses(X, [X[7] + X[8], X[0]], bits=bits, trials=400, failure=0.5)
    spread = errors.std() / np.sqrt(400)
    assert abs(errors.mean()) < 1e-3
    assert np.abs(errors.mean(axis=0)).max() < 6 * spread * np.sqrt(2)


def test_the_cosine_of_signs_is_biased_and_the_estimate_is_not():
    cosine = 0.7
    X = np.zeros((1, D))
    X[0, 0] = 1
    q = np.zeros(D)
    q[:2] = cosine, np.sqrt(1 - cosine**2)
    raw, undone, ours = [], [], []
    for seed in range(1500):
        codes = SignCodes.encode(X, seed=seed, centre=np.zeros(D))
        h = codes.hamming(q)
        raw.append(1 - 2 * h[0] / D)
        undone.append(cosine_from_hamming(h, D)[0])
        ours.append(codes.estimate(q).value[0])
    assert np.mean(raw) == pytest.approx(2 / np.pi * np.arcsin(cosine), abs=0.01)
    assert abs(np.mean(raw) - cosine) > 0.15
    assert np.mean(undone) == pytest.approx(cosine, abs=0.02)
    assert np.mean(ours) == pytest.approx(cosine, abs=0.01)
    assert np.std(ours) < 0.8 * np.std(undone)


def test_spread_of_one_bit_follows_the_formula():
    for cosine in (0.0, 0.7, 0.9):
        X, q = np.eye(48)[:1], np.zeros(48)
        q[:2] = cosine, np.sqrt(1 - cosine**2)
        got = [
            SignCodes.encode(X, seed=s, centre=np.zeros(48)).estimate(q).value[0]
            for s in range(400)
        ]
        wanted = 0.755 * np.sqrt(1 - cosine**2) / np.sqrt(47)
        assert np.std(got) == pytest.approx(wanted, rel=0.13)


def clustered(rows, seed):
    centres = np.random.default_rng(99).standard_normal((30, D))
    rng = np.random.default_rng(seed)
    X = centres[rng.integers(0, 30, rows)]
    X = X + 0.6 * rng.standard_normal((rows, D)) + 0.3
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def test_centring_narrows_the_intervals():
    X = clustered(500, 1) + 2.0
    centred, plain = (SignCodes.encode(X, centre=c).estimate(X[0]) for c in (None, np.zeros(D)))
    assert np.mean(centred.upper - centred.lower) < 0.5 * np.mean(plain.upper - plain.lower)


@pytest.mark.parametrize("bits", [1, 2])
def test_top_k_finds_nearly_all_and_without_rescoring_far_fewer(bits):
    X = clustered(5000, 2)
    queries = clustered(40, 3)
    codes = SignCodes.encode(X, bits=bits)
    recalls = {}
    for rescore in (10, 1200):
        found = [top_k(codes, q, X, rescore=rescore) for q in queries]
        recalls[rescore] = np.mean(
            [
                len(set(f.rows) & set(np.argsort(-(X @ q))[:10])) / 10
                for f, q in zip(found, queries, strict=True)
            ]
        )
    assert recalls[1200] >= 0.99
    assert recalls[10] < 0.9


def test_top_k_gives_the_exact_scores_in_order_whatever_the_blocks():
    X = clustered(40_000, 4)
    codes, q = SignCodes.encode(X), clustered(1, 5)[0]
    found = top_k(codes, q, X, k=7, rescore=5000)
    np.testing.assert_array_equal(found.rows, np.argsort(-(X @ q), kind="stable")[:7])
    np.testing.assert_allclose(found.scores, (X @ q)[found.rows], rtol=1e-6)
    assert (found.rescored, found.proven) == (5000, False)


def test_the_answer_does_not_depend_on_threads():
    X, q = clustered(40_000, 4), clustered(1, 5)[0]
    codes, threads = SignCodes.encode(X), torch.get_num_threads()
    answers = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            answers.append(top_k(codes, q, X, rescore=300, k=300).rows)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("bits", [1, 4])
def test_certified_answers_are_true_at_the_stated_rate(bits):
    X, queries = clustered(1500, 6), clustered(60, 7)
    wrong, rescored = 0, []
    for seed in range(3):
        codes = SignCodes.encode(X, bits=bits, seed=seed)
        for q in queries:
            found = certified_top_k(codes, q, X, k=5, failure=0.2)
            assert found.proven
            assert found.failure == 0.2
            wrong += set(found.rows) != set(np.argsort(-(X @ q))[:5])
            rescored.append(found.rescored)
    assert wrong / len(rescored) < 0.2
    assert np.mean(rescored) < 0.75 * len(X)


def test_more_bits_need_fewer_rescored_rows_for_a_proof():
    X, q = clustered(20_000, 6), clustered(1, 9)[0]
    counts = [
        certified_top_k(SignCodes.encode(X, bits=bits), q, X, failure=0.01).rescored
        for bits in (1, 2, 4)
    ]
    assert counts[0] > counts[1] > counts[2]


def test_a_budget_that_ends_the_search_leaves_it_unproven():
    X, q = clustered(5000, 6), clustered(1, 9)[0]
    found = certified_top_k(SignCodes.encode(X), q, X, budget=20)
    assert (found.proven, found.failure, found.rescored) == (False, 1.0, 20)


def test_near_copies_and_fewer_rows_than_k_are_proven():
    X = np.repeat(clustered(3, 8), 2, axis=0)
    found = certified_top_k(SignCodes.encode(X), X[0], X, k=10)
    assert found.proven
    assert found.rows[:2].tolist() == [0, 1]
    assert len(found.rows) == 6


def test_rows_can_be_fetched_from_elsewhere():
    X, q = clustered(2000, 6), clustered(1, 9)[0]
    codes, asked = SignCodes.encode(X), []

    def fetch(rows):
        asked.extend(rows.tolist())
        return torch.from_numpy(X[rows])

    found = top_k(codes, q, fetch, rescore=100)
    assert len(asked) == len(set(asked)) == found.rescored == 100
    np.testing.assert_array_equal(found.rows, top_k(codes, q, X, rescore=100).rows)


def test_extending_equals_encoding_at_once():
    X = clustered(300, 1)
    whole = SignCodes.encode(X, bits=2, centre=np.zeros(D))
    parts = SignCodes.encode(X[:100], bits=2, centre=np.zeros(D)).extend(X[100:]).extend(X[:0])
    np.testing.assert_array_equal(whole.planes, parts.planes)
    np.testing.assert_allclose(whole.scale, parts.scale, rtol=1e-5)


@pytest.mark.parametrize("bits", [1, 3])
def test_saved_codes_load_as_they_were(tmp_path, bits):
    X = clustered(100, 1)
    codes = SignCodes.encode(X, bits=bits, seed=11)
    codes.save(tmp_path / "codes.safetensors")
    again = SignCodes.load(tmp_path / "codes.safetensors")
    assert (again.dimension, again.bits, again.seed) == (D, bits, 11)
    np.testing.assert_array_equal(again.planes, codes.planes)
    np.testing.assert_array_equal(again.estimate(X[0]).upper, codes.estimate(X[0]).upper)
    size = (tmp_path / "codes.safetensors").stat().st_size
    assert size < 100 * codes.bytes_per_vector + 8 * D + 1000


def test_a_file_of_another_kind_is_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"x": np.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"with schema None; wanted unabridged\.sign_codes/1"):
        SignCodes.load(tmp_path / "other.safetensors")


def test_torch_half_and_integers_are_encoded_like_their_values():
    X = np.random.default_rng(0).integers(-9, 9, (50, D))
    wanted = SignCodes.encode(X).planes
    for same in (torch.from_numpy(X), torch.from_numpy(X).bfloat16(), X.astype(np.float16)):
        np.testing.assert_array_equal(SignCodes.encode(same).planes, wanted)


def test_one_dimension_one_row_constant_columns_and_duplicates_work():
    for X in (np.array([[2.0]]), np.array([[2.0], [3.0]]), np.ones((5, 7))):
        codes = SignCodes.encode(X)
        got = codes.estimate(X[0])
        assert (got.lower <= X @ X[0]).all()
        assert (X @ X[0] <= got.upper).all()
        assert certified_top_k(codes, X[0], X, k=1).proven


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda X, c: SignCodes.encode(X[0]), ValueError, r"got shape \(67,\); wanted two"),
        (lambda X, c: SignCodes.encode(X[:0]), ValueError, "wanted at least one row"),
        (
            lambda X, c: SignCodes.encode(X, bits=5),
            ValueError,
            "got bits=5; wanted between 1 and 4",
        ),
        (lambda X, c: SignCodes.encode(X, bits=1.5), TypeError, "wanted an integer"),
        (lambda X, c: SignCodes.encode(X * np.nan), ValueError, "got NaN or infinity"),
        (lambda X, c: SignCodes.encode(X, centre=X[0, :3]), ValueError, "got 3 columns; wanted 67"),
        (lambda X, c: SignCodes.encode(X, seed=-1), ValueError, "got seed=-1"),
        (lambda X, c: SignCodes.encode([["a"]]), TypeError, "wanted real numbers"),
        (lambda X, c: c.extend(X[:, :3]), ValueError, "got 3 columns; wanted 67"),
        (lambda X, c: c.estimate(X), ValueError, "wanted one vector of 67 entries"),
        (lambda X, c: c.estimate(X[0] * np.inf), ValueError, "infinity in the query"),
        (lambda X, c: c.estimate(X[0], failure=0), ValueError, "got failure=0; wanted a prob"),
        (lambda X, c: c.hamming(X[0, :5]), ValueError, "got 5 columns; wanted 67"),
        (lambda X, c: top_k(c, X[0], X, k=0), ValueError, "got k=0; wanted at least 1"),
        (lambda X, c: top_k(c, X[0], X, k=9, rescore=8), ValueError, "got rescore=8"),
        (lambda X, c: top_k(c, X[0], X, query_bits=5), ValueError, "got query_bits=5"),
        (lambda X, c: top_k(c, X[0], X[:5]), ValueError, r"got vectors of shape \(5, 67\)"),
        (lambda X, c: certified_top_k(c, X[0], X, failure=1), ValueError, "got failure=1"),
        (lambda X, c: certified_top_k(c, X[0], X, budget=1), ValueError, "got budget=1"),
        (lambda X, c: bucket_rows(c, X[0], width=65), ValueError, "got width=65"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(call, error, message):
    X = clustered(20, 1)
    with pytest.raises(error, match=message):
        call(X, SignCodes.encode(X))


def test_probe_sequence_is_every_set_in_ascending_order():
    margins = np.array([0.7, 0.2, 0.9, 0.4, 0.25])
    flips = probe_sequence(margins, 40)
    totals = flips @ margins
    assert len(flips) == len({tuple(row) for row in flips.tolist()}) == 32
    assert (np.diff(totals) >= -1e-12).all()
    assert not flips[0].any()


def test_collision_probability_is_one_minus_the_angle():
    agree = 0
    for seed in range(600):
        a = haar_rows(3, D, seed)
        q = np.zeros(D)
        q[:2] = 0.8, 0.6
        agree += bool((np.sign(a[:, 0]) == np.sign(a @ q)).all())
    assert agree / 600 == pytest.approx(collision_probability(0.8, 3), abs=0.07)


def test_probe_success_predicts_how_often_the_neighbour_is_found():
    rng = np.random.default_rng(0)
    cosine, width, found, predicted = 0.8, 10, {1: 0, 40: 0}, {1: 0.0, 40: 0.0}
    for _ in range(400):
        planes = rng.standard_normal((width, D))
        q, u = np.zeros(D), np.zeros(D)
        q[0], u[:2] = 1, (cosine, 0.6)
        heights = planes @ q
        for probes in found:
            flips = probe_sequence(np.abs(heights), probes)
            keys = (heights > 0) ^ flips
            found[probes] += bool((keys == (planes @ u > 0)).all(axis=1).any())
            predicted[probes] += probe_success(np.abs(heights), flips, cosine)
    for probes in found:
        assert found[probes] / 400 == pytest.approx(predicted[probes] / 400, abs=0.08)
    assert found[40] > 3 * found[1]


def test_more_probes_find_more_of_the_neighbours():
    X, q = clustered(5000, 2), clustered(1, 3)[0]
    codes, best = SignCodes.encode(X), set(np.argsort(-(X @ q))[:50])
    few, many = (set(bucket_rows(codes, q, width=10, probes=p).tolist()) for p in (1, 200))
    assert few < many
    assert len(many & best) > len(few & best)
    # Far better than chance: the buckets hold a larger share of the neighbours than of all rows.
    assert len(many & best) / 50 > 1.5 * len(many) / len(X)
