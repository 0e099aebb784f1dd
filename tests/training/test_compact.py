import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM

from tiny_models import TEXT, wordpiece
from unabridged._errors import ModelError
from unabridged.attention.exact import Exact
from unabridged.attention.residual import Residual
from unabridged.encoder.tokens import load_tokenizer
from unabridged.training.compact import CompactEncoder, Shape, logits_at
from unabridged.training.compact_export import load_compact, save_as_bert, save_compact, to_bert
from unabridged.training.corpus import Batch, Batches, Corpus
from unabridged.training.loop import train
from unabridged.training.masking import MaskedLanguageModel, Masking
from unabridged.training.schedule import Schedule
from unabridged.training.settings import Settings

ARCHITECTURES = ["post-norm", "pre-norm", "realformer"]
POSITIONS = ["learned", "sinusoidal"]
EVERY = pytest.mark.parametrize("architecture", ARCHITECTURES)


def shape(architecture="post-norm", positions="learned", **others):
    sizes = {"vocabulary": 97, "width": 20, "layers": 3, "heads": 5, "hidden": 43, "length": 31}
    return Shape(**{**sizes, **others}, architecture=architecture, positions=positions)


def some_ids():
    return torch.randint(97, (2, 17), generator=torch.Generator().manual_seed(0))


@EVERY
@pytest.mark.parametrize("positions", POSITIONS)
def test_padding_changes_no_token(architecture, positions):
    model = CompactEncoder(shape(architecture, positions), seed=0).eval()
    ids = some_ids()
    padded = torch.cat([ids, torch.zeros(2, 11, dtype=torch.long)], dim=1)
    real = torch.arange(28).expand(2, -1) < 17
    torch.testing.assert_close(model.states(padded, real)[:, :17], model.states(ids))


@EVERY
def test_equal_seeds_give_equal_weights(architecture):
    one, two = (CompactEncoder(shape(architecture), seed=3) for _ in range(2))
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_architectures_start_from_the_same_weights():
    weights = [CompactEncoder(shape(each), seed=0).state_dict() for each in ARCHITECTURES]
    for name in weights[0]:
        assert torch.equal(weights[0][name], weights[1][name])
        assert torch.equal(weights[0][name], weights[2][name])


def test_architectures_differ():
    models = [CompactEncoder(shape(each), seed=0) for each in ARCHITECTURES]
    with torch.no_grad():
        for block in (block for model in models for block in model.blocks):
            for part in (block.query, block.key, block.value):
                part.weight.mul_(20)  # scores of first weights are next to nothing
    post, pre, real = (model(some_ids()) for model in models)
    assert (post - pre).abs().max() > 1e-3
    assert (post - real).abs().max() > 1e-4


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("attention", [Exact(), Residual("materialised", dropout=0.5)])
def test_post_norm_is_bert(positions, attention):
    model = CompactEncoder(shape("post-norm", positions), seed=0, attention=attention).eval()
    bert = to_bert(model)
    real = torch.arange(17).expand(2, -1) < torch.tensor([[17], [13]])
    theirs = bert(input_ids=some_ids(), attention_mask=real.long()).logits
    torch.testing.assert_close(model(some_ids(), real)[real], theirs[real])


def test_a_saved_bert_loads_everywhere(tmp_path):
    model = CompactEncoder(shape(), seed=0).eval()
    save_as_bert(model, tmp_path / "bert", tokenizer=wordpiece())
    body = AutoModel.from_pretrained(tmp_path / "bert")
    whole = AutoModelForMaskedLM.from_pretrained(tmp_path / "bert")
    torch.testing.assert_close(body(some_ids()).last_hidden_state, model.states(some_ids()))
    torch.testing.assert_close(whole(some_ids()).logits, model(some_ids()))


@pytest.mark.parametrize("architecture", ["pre-norm", "realformer"])
def test_what_is_no_bert_is_not_saved_as_one(architecture):
    with pytest.raises(ModelError, match=f"the architecture is '{architecture}'"):
        to_bert(CompactEncoder(shape(architecture), seed=0))


def test_a_model_of_another_attention_is_not_saved_as_bert():
    model = CompactEncoder(shape(), seed=0, attention=lambda q, k, v, **_: v)
    with pytest.raises(ModelError, match="a stock BERT by the softmax"):
        to_bert(model)


@EVERY
def test_a_saved_encoder_comes_back(architecture, tmp_path):
    inner = Residual("concatenated", attention=Exact(tile=5))
    attention = inner if architecture == "realformer" else Exact(tile=7)
    model = CompactEncoder(shape(architecture, "sinusoidal"), seed=5, attention=attention).eval()
    again = load_compact(save_compact(model, tmp_path / "model"))
    assert again.shape == model.shape
    assert again.attention == attention
    assert torch.equal(again(some_ids()), model(some_ids()))


def test_a_folder_without_an_encoder_is_refused(tmp_path):
    with pytest.raises(ModelError, match="holds no compact encoder"):
        load_compact(tmp_path)


def test_realformer_adds_scores_as_its_definition_does():
    """One block by hand: softmax of its own scores plus the first block's."""
    model = CompactEncoder(shape("realformer", layers=2), seed=0).eval()
    block, states = model.blocks[1], None
    _, first = model.blocks[0](_embedded(model), None, Residual("materialised"), None)
    states, _ = model.blocks[0](_embedded(model), None, Residual("materialised"), None)
    query, key, value = block.heads_of(states)
    scores = query @ key.mT / 2.0 + first.scores
    mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    inner = block.attention_norm(states + block.out(mixed))
    gelu = torch.nn.functional.gelu(block.up(inner))
    wanted = block.output_norm(inner + block.down(gelu))
    torch.testing.assert_close(model.states(some_ids()), wanted)


def _embedded(model):
    return model.embedding_norm(model.words(some_ids()) + model.places.weight[:17])


def test_sinusoids_stay_as_they_are():
    model = CompactEncoder(shape(positions="sinusoidal"), seed=0)
    assert not model.places.weight.requires_grad
    rms = model.places.weight.square().mean().sqrt()
    torch.testing.assert_close(rms, torch.tensor(0.02))


def test_logits_at_are_those_places():
    model = CompactEncoder(shape(), seed=0).eval()
    chosen = torch.rand(2, 17, generator=torch.Generator().manual_seed(1)) < 0.3
    batch = Batch(some_ids(), torch.ones(2, 17, dtype=torch.bool))
    torch.testing.assert_close(logits_at(model, batch, chosen), model(some_ids())[chosen])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"architecture": "middle-norm"}, "architecture is 'middle-norm'; wanted post-norm"),
        ({"positions": "rotary"}, "positions is 'rotary'; wanted learned"),
        ({"width": 25}, "width is 25"),
    ],
)
def test_shapes_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Shape(**{"vocabulary": 97, "heads": 5, "width": 20, **settings})


def test_too_long_an_input_is_refused():
    with pytest.raises(ValueError, match="got 32 tokens, wanted at most 31"):
        CompactEncoder(shape(), seed=0)(torch.zeros(1, 32, dtype=torch.long))


def test_realformer_takes_a_residual_attention_only():
    with pytest.raises(ValueError, match="wrap it as"):
        CompactEncoder(shape("realformer"), seed=0, attention=Exact())


@pytest.fixture(scope="module")
def tokenizer():
    return wordpiece()  # made twice, ties between pieces may fall otherwise


def text_run(folder, tokenizer, architecture, steps, **others):
    """A few steps on a small text with dropout of both kinds."""
    tokenizer.save_pretrained(folder / "tokenizer")
    words = load_tokenizer(folder / "tokenizer", lowercase=False)
    corpus = Corpus.write(folder / "tokens", [TEXT] * 4, words)
    attention = Residual(dropout=0.1) if architecture == "realformer" else None
    made = shape(architecture, vocabulary=len(tokenizer), dropout=0.1)
    model = CompactEncoder(made, seed=0, attention=attention)
    settings = Settings(steps=steps, schedule=Schedule(peak=1e-2), look_every=steps, **others)
    trained = train(
        model,
        MaskedLanguageModel(Masking.of(tokenizer), logits_at),
        Batches(corpus.blocks(31), size=7),
        folder=folder / "run",
        settings=settings,
        held_out=[Batch.of(list(corpus.blocks(31))[:3])],
    )
    return model, trained


@EVERY
def test_training_learns(architecture, tokenizer, tmp_path):
    _, trained = text_run(tmp_path, tokenizer, architecture, 40)
    assert trained.held_out < trained.held_out_before - 1.0


def test_training_gives_equal_bits_for_equal_seeds(tokenizer, tmp_path):
    one, _ = text_run(tmp_path / "one", tokenizer, "realformer", 5)
    two, _ = text_run(tmp_path / "two", tokenizer, "realformer", 5)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
