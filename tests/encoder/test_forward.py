"""The packed forward pass against Hugging Face's own, block by block."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from reference_encoder import attend_to_rows
from unabridged.encoder.forward import Forward
from unabridged.encoder.packing import Block, pack
from unabridged.encoder.surgery import FAMILIES, dissect

LENGTHS = (17, 5, 17, 23, 5, 3)


def load(folder):
    return AutoModel.from_pretrained(folder, attn_implementation="eager").eval()


def blocks_of(lengths, vocabulary=50):
    generator = torch.Generator().manual_seed(3)
    return [
        Block(torch.randint(5, vocabulary, (length,), generator=generator).tolist())
        for length in lengths
    ]


def states_by_block(forward, blocks, context=0, specials=(1, 1)):
    packed, order = pack(blocks, context, specials)
    states = forward(packed)
    parts = iter(states.split([len(blocks[i].ids) for i in order]))
    found = dict(zip(order, parts, strict=True))
    return [found[i] for i in range(len(blocks))]


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "camembert"])
def test_packed_blocks_equal_hugging_face_one_by_one(family, model_folders):
    model = load(model_folders[family])
    blocks = blocks_of(LENGTHS)
    forward = Forward(dissect(model), torch.float32)
    for block, states in zip(blocks, states_by_block(forward, blocks), strict=True):
        with torch.no_grad():
            wanted = model(input_ids=torch.tensor([block.ids])).last_hidden_state[0]
        torch.testing.assert_close(states, wanted, rtol=1e-4, atol=2e-5)


def test_a_torch_without_packed_products_gives_the_same_states(model_folders, monkeypatch):
    architecture = dissect(load(model_folders["bert"]))
    blocks = blocks_of(LENGTHS)
    packed = torch.cat(states_by_block(Forward(architecture, torch.float32), blocks))
    monkeypatch.setattr("unabridged.encoder.forward._PACKED_LINEAR", None)
    plain = torch.cat(states_by_block(Forward(architecture, torch.float32), blocks))
    torch.testing.assert_close(packed, plain, rtol=1e-4, atol=2e-5)


def test_bfloat16_stays_close_to_float32_and_is_not_it(model_folders):
    architecture = dissect(load(model_folders["bert"]))
    blocks = blocks_of(LENGTHS)
    exact = torch.cat(states_by_block(Forward(architecture, torch.float32), blocks))
    rounded = torch.cat(states_by_block(Forward(architecture, torch.bfloat16), blocks)).float()
    cosine = torch.nn.functional.cosine_similarity(exact, rounded, dim=-1)
    assert cosine.min() > 0.999
    assert (exact - rounded).abs().max() > 1e-4


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_windows_equal_a_masked_pass_over_the_whole_stream(family, model_folders):
    """Oracle: Hugging Face's layers over all blocks as one sequence, keys masked row by row."""
    model = load(model_folders[family])
    lengths, context = (17, 17, 11), 5
    plain = blocks_of(lengths)
    blocks = [
        Block(block.ids, i - 1 if i else None, i + 1 if i < len(plain) - 1 else None)
        for i, block in enumerate(plain)
    ]
    states = states_by_block(Forward(dissect(model), torch.float32), blocks, context)
    wanted = attend_to_rows(model, [block.ids for block in blocks], context)
    torch.testing.assert_close(torch.cat(states), wanted, rtol=1e-4, atol=2e-5)


def test_a_window_sees_its_neighbours_and_a_chunk_does_not(model_folders):
    forward = Forward(dissect(load(model_folders["bert"])), torch.float32)
    first, second = blocks_of((13, 13))
    other = Block([*first.ids[:-2], 4, first.ids[-1]])
    for context, changes in ((0, False), (4, True)):
        neighbours = (None, None) if context == 0 else (0, 1)
        before, after = (
            states_by_block(
                forward,
                [Block(b.ids, None, neighbours[1]), Block(second.ids, neighbours[0], None)],
                context,
            )[1]
            for b in (first, other)
        )
        assert torch.equal(before, after) is not changes


def test_order_of_blocks_does_not_change_their_states(model_folders):
    forward = Forward(dissect(load(model_folders["bert"])), torch.float32)
    blocks = blocks_of(LENGTHS)
    forth = states_by_block(forward, blocks)
    back = states_by_block(forward, blocks[::-1])[::-1]
    for left, right in zip(forth, back, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


def test_special_ids_are_where_the_tokenizer_puts_them(model_folders):
    tokenizer = AutoTokenizer.from_pretrained(model_folders["roberta"])
    assert tokenizer("a").input_ids[0] == tokenizer.cls_token_id
