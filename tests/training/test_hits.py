"""From a folder of documents to a recorded adaptation, and from a question to who moved its hit."""

from __future__ import annotations

import json
import math

import pytest

from unabridged._errors import ModelError
from unabridged.cli import main
from unabridged.encoder import LongEncoder
from unabridged.training import TrainingError
from unabridged.training.adaptation import Recipe
from unabridged.training.hits import adapt_recorded, explain_rank, recording_of

RECIPE = Recipe(
    max_length=211, minutes=None, steps=5, rate=1e-3, window=20, trains="positions+norms"
)


@pytest.fixture(scope="module")
def adapted(tiny_bert, long_documents, tmp_path_factory):
    out = tmp_path_factory.mktemp("recorded") / "out"
    made = adapt_recorded(tiny_bert, long_documents, out, recipe=RECIPE)
    assert (made.goal, made.steps, made.folder) == ("distillation", 5, out)
    return out


def test_recorded_model_reads_longer_and_scores_as_its_ledger_says(adapted, long_documents):
    encoder = LongEncoder(adapted, dtype="float32")
    text = (long_documents / "long-3.txt").read_text()
    found = explain_rank(adapted, "tables and cafés", text)
    start, end = found.chars
    question, passage = encoder.encode(["tables and cafés", text[start:end]])
    cosine = float(encoder.similarity(question[None], passage[None]))
    assert math.isclose(found.hit.score, cosine, abs_tol=1e-4)
    lines = found.hit.as_json()["entries"]
    assert math.isclose(math.fsum(line["amount"] for line in lines), found.hit.score, abs_tol=1e-12)
    change = abs(found.hit.score - found.hit.before)
    assert abs(found.hit.as_json()["residual"]) < 1e-4 * change
    taught = {line["document"] for line in lines if line["id"] is not None}
    assert taught <= {path.name for path in long_documents.iterdir()}
    assert taught
    assert "broken.pdf" not in taught


def test_why_hit_prints_lines_that_sum(adapted, long_documents, capsys):
    command = ["why-hit", "the whole report", str(long_documents / "long-1.txt")]
    with pytest.raises(SystemExit) as left:
        main([*command, "--model", str(adapted), "--json"])
    assert not left.value.code
    found = json.loads(capsys.readouterr().out)
    total = math.fsum(line["amount"] for line in found["entries"])
    assert math.isclose(total, found["score"], abs_tol=1e-12)
    with pytest.raises(SystemExit):
        main([*command, "--model", str(adapted), "-n", "2"])
    assert "before training" in capsys.readouterr().out


def test_an_existing_folder_is_left_alone(adapted, tiny_bert, long_documents):
    with pytest.raises(ModelError, match="exists already"):
        adapt_recorded(tiny_bert, long_documents, adapted, recipe=RECIPE)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"minutes": 1.0}, "no minutes"),
        ({"goal": "masked-language"}, "self-distillation"),
        ({"residual_attention": True}, "own attention"),
    ],
)
def test_what_cannot_be_recorded_is_refused(changed, reason, tiny_bert, long_documents, tmp_path):
    recipe = Recipe(**{**vars(RECIPE), **changed})
    with pytest.raises(TrainingError, match=reason):
        adapt_recorded(tiny_bert, long_documents, tmp_path / "out", recipe=recipe)
    assert not recording_of(tmp_path / "out").exists()


def test_a_model_without_a_recording_says_how_to_make_one(tmp_path):
    with pytest.raises(TrainingError, match="--record"):
        explain_rank(tmp_path / "out", "a question", "a text")
