"""Slow, obvious oracles for the encoder."""

from __future__ import annotations

import torch
from torch import Tensor


def attend_to_rows(model, blocks: list[list[int]], context: int) -> Tensor:
    """Windows by brute force: one sequence of all blocks, a full score matrix, and a mask.

    A row may look at its own block and at the `context` tokens nearest to it of the neighbouring
    blocks, their special tokens excepted. Positions begin anew in every block.
    """
    ids = torch.tensor([[token for block in blocks for token in block]])
    within = torch.cat([torch.arange(len(block)) for block in blocks])
    block_of = torch.cat([torch.full((len(b),), i) for i, b in enumerate(blocks)])
    length = torch.tensor([len(block) for block in blocks])[block_of]
    text = (within > 0) & (within < length - 1)
    from_end = length - 2 - within
    step = block_of[None, :] - block_of[:, None]  # of a key as its query counts
    allowed = step == 0
    allowed |= (step == -1) & text[None, :] & (from_end[None, :] < context)
    allowed |= (step == 1) & text[None, :] & (within[None, :] - 1 < context)
    mask = torch.where(allowed, 0.0, -torch.inf)[None, None]
    first = 0 if model.config.model_type == "bert" else model.config.pad_token_id + 1
    states = model.embeddings(input_ids=ids, position_ids=(within + first)[None])
    if model.config.model_type == "mpnet":
        place = within[None, :] + torch.where(step == 1, length[:, None] - 2, 0)
        place = place - torch.where(step == -1, length[None, :] - 2, 0)
        buckets = model.encoder.relative_position_bucket(place - within[:, None])
        bias = model.encoder.relative_attention_bias(buckets).permute(2, 0, 1)[None]
        for layer in model.encoder.layer:
            states = layer(states, attention_mask=mask, position_bias=bias)[0]
        return states[0].detach()
    for layer in model.encoder.layer:
        states = layer(states, attention_mask=mask)
        states = states[0] if isinstance(states, tuple) else states
    return states[0].detach()
