"""Masks as BERT draws them, and a loss that looks at hidden tokens alone."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForMaskedLM

from tiny_models import CONFIGS, TOKENIZER_OF, TOKENIZERS
from unabridged._errors import ModelError
from unabridged.training import Batch, MaskedLanguageModel, Masking
from unabridged.training.masking import logits_of_checkpoint
from unabridged.training.seeds import generator

MASK, VOCABULARY = 3, 1009
MASKING = Masking(MASK, VOCABULARY, special_ids=(0, 1, 2))


def batch_of(lengths=(211, 197)):
    drawn = generator(0, 1)
    blocks = [torch.randint(10, VOCABULARY, (n,), generator=drawn) for n in lengths]
    for block in blocks:
        block[0], block[-1] = 1, 2
    return Batch.of(blocks)


def test_equal_generators_hide_the_same_tokens():
    first, again, other = (MASKING(batch_of(), generator(0, n)) for n in (5, 5, 6))
    assert first[0].ids.equal(again[0].ids)
    assert first[1].equal(again[1])
    assert not first[1].equal(other[1])


def test_special_tokens_and_padding_are_never_chosen():
    batch = batch_of()
    for number in range(50):
        hidden, chosen = MASKING(batch, generator(0, number))
        forbidden = ~batch.real | torch.isin(batch.ids, torch.tensor([0, 1, 2]))
        assert not (chosen & forbidden).any()
        assert hidden.ids[~chosen].equal(batch.ids[~chosen])


def test_fates_have_the_shares_of_the_paper():
    batch = Batch.of([torch.full((40_000,), 7)])
    hidden, chosen = MASKING(batch, generator(0, 1))
    count = int(chosen.sum())
    assert abs(count / 40_000 - 0.15) < 4 * (0.15 * 0.85 / 40_000) ** 0.5
    masked = (hidden.ids[chosen] == MASK).float().mean()
    kept = (hidden.ids[chosen] == 7).float().mean()
    assert abs(masked - 0.8) < 4 * (0.8 * 0.2 / count) ** 0.5
    assert abs(kept - 0.1) < 4 * (0.1 * 0.9 / count) ** 0.5


def test_a_short_batch_hides_at_least_one_token():
    batch = Batch.of([torch.tensor([1, 77, 2])])
    for number in range(9):
        assert MASKING(batch, generator(0, number))[1].tolist() == [[False, True, False]]
    with pytest.raises(ValueError, match="special tokens alone"):
        MASKING(Batch.of([torch.tensor([1, 2])]), generator(0, 0))


@pytest.mark.parametrize("family", [f for f in CONFIGS if f != "xlm-roberta"])
def test_logits_at_chosen_places_are_those_of_the_whole_head(family):
    tokenizer = TOKENIZERS[TOKENIZER_OF.get(family, "wordpiece")]()
    torch.manual_seed(2)
    model = AutoModelForMaskedLM.from_config(CONFIGS[family](len(tokenizer))).eval()
    masking = Masking.of(tokenizer)
    batch = Batch.of(
        [torch.randint(9, len(tokenizer), (n,), generator=generator(1, n)) for n in (53, 47)]
    )
    hidden, chosen = masking(batch, generator(0, 0))
    with torch.no_grad():
        whole = model(input_ids=hidden.ids, attention_mask=hidden.attention_mask).logits
        torch.testing.assert_close(logits_of_checkpoint(model, hidden, chosen), whole[chosen])
        loss = MaskedLanguageModel(masking)(model, batch, generator(0, 0))
    expected = torch.nn.functional.cross_entropy(whole[chosen], batch.ids[chosen])
    torch.testing.assert_close(loss, expected)


def test_a_tokenizer_without_a_mask_is_refused():
    tokenizer = TOKENIZERS["wordpiece"]()
    tokenizer.mask_token = None
    with pytest.raises(ModelError, match="has no mask token"):
        Masking.of(tokenizer)
