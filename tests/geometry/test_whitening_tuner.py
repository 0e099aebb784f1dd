import numpy as np
import pytest

from unabridged.geometry.recipe import Recipe
from unabridged.geometry.whitening_tuner import MARGIN, default_candidates, tune_whitening

N, D = 401, 23


def texts(nuisance, seed=0, n=N):
    """Wholes and halves that share a meaning; `nuisance` scales directions that mean nothing."""
    rng = np.random.default_rng(seed)
    scale = np.r_[np.full(3, nuisance), np.ones(D - 3)]
    meaning = rng.standard_normal((n, D)) * np.r_[np.zeros(3), np.ones(D - 3)]
    a, b = (meaning + 0.7 * rng.standard_normal((n, D)) * scale for _ in range(2))
    return (a + b) / 2, a, b


def test_directions_that_mean_nothing_are_whitened_away():
    X, a, b = texts(nuisance=12.0)
    tuning = tune_whitening(X, a, b)
    assert tuning.recipe is not None
    assert tuning.recipe.gamma > 0
    assert tuning.gain > MARGIN
    assert tuning.lower > 0
    assert tuning.whitening.recipe == tuning.recipe


def test_vectors_that_are_white_already_are_left_alone():
    X, a, b = texts(nuisance=1.0)
    tuning = tune_whitening(X, a, b)
    assert tuning.recipe is None
    np.testing.assert_array_equal(tuning.whitening.transform(X), X)


def test_noise_leads_to_the_identity():
    rng = np.random.default_rng(1)
    X, a, b = (rng.standard_normal((N, D)) for _ in range(3))
    assert tune_whitening(X, a, b).recipe is None


def test_too_few_texts_for_the_dimension_lead_to_the_identity_or_to_shrinkage():
    X, a, b = texts(nuisance=2.0, n=30)
    tuning = tune_whitening(X, a, b)
    assert tuning.recipe is None or tuning.recipe.shrinkage != "none" or tuning.recipe.gamma == 0


def test_the_choice_never_scores_below_the_identity_on_its_own_held_out_pairs():
    for seed in range(4):
        tuning = tune_whitening(*texts(nuisance=1.0 + seed, seed=seed, n=151))
        assert tuning.recipe is None or tuning.gain > 0


def test_a_candidate_that_is_worse_is_refused_even_if_it_is_the_only_one():
    X, a, b = texts(nuisance=1.0)
    tuning = tune_whitening(X, a, b, candidates=[Recipe(dimension=1)])
    assert tuning.best == Recipe(dimension=1)
    assert tuning.recipe is None
    assert tuning.gain < 0


def test_equal_seeds_give_equal_choices():
    X, a, b = texts(nuisance=6.0)
    once, again = tune_whitening(X, a, b, seed=3), tune_whitening(X, a, b, seed=3)
    assert once.scores == again.scores
    assert (once.gain, once.lower) == (again.gain, again.lower)


def test_texts_without_halves_serve_for_fitting_only():
    X, a, b = texts(nuisance=12.0)
    a[::3] = np.nan
    assert tune_whitening(X, a, b).recipe is not None


def test_copies_of_a_text_do_not_stand_on_both_sides():
    # Forty texts ten times over: memorised copies must not pass for unseen texts.
    X, a, b = (np.repeat(part, 10, axis=0) for part in texts(nuisance=1.0, n=40))
    tuning = tune_whitening(X, a, b, candidates=[Recipe()])
    assert tuning.recipe is None


def test_default_candidates_reach_from_rotation_to_the_published_recipe():
    candidates = default_candidates(384)
    assert Recipe() in candidates
    assert Recipe(beta=0.0, gamma=0.0, dimension=96) in candidates
    assert len(set(candidates)) == len(candidates)
    assert default_candidates(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((20, 3)), np.ones((19, 3)), np.ones((20, 3))), "X has 20 rows, first 19 and"),
        ((np.ones((20, 3)), np.ones((20, 2)), np.ones((20, 3))), "first has 2 columns and 3 are"),
        ((np.ones((20, 3)), np.ones((20, 3)), np.ones((20, 3))), "only 1 different texts have two"),
    ],
)
def test_bad_input_is_answered_in_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        tune_whitening(*arguments)


def test_no_candidates_is_no_choice():
    with pytest.raises(ValueError, match="candidates is empty"):
        tune_whitening(*texts(1.0), candidates=[])
