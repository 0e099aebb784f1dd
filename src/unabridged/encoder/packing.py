"""Laying blocks out as one pack: equal shapes side by side, neighbours named by row numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

import torch
from torch import Tensor

from unabridged._reading import Span
from unabridged.encoder.forward import SLICE_ROWS, Pack, Tile

__all__ = ["Block", "pack"]


@dataclass(frozen=True)
class Block:
    """A passage ready for the encoder.

    Attributes:
        ids: token ids with special tokens and prompt.
        before: the block that precedes it in the same stream, by its place in the list, or None.
        after: the block that follows it, or None.
        temperature: what its attention scores are multiplied by; the same for all equally long
            blocks of a pack.
    """

    ids: Sequence[int]
    before: int | None = None
    after: int | None = None
    temperature: float = 1.0


def pack(blocks: Sequence[Block], context: int, specials: Span) -> tuple[Pack, list[int]]:
    """Lay blocks out by shape, so that equal ones make tiles.

    Args:
        blocks: at least one; neighbours are named by their place in this list.
        context: tokens seen on either side.
        specials: how many rows at a block's start and at its end are not the document's own.

    Returns:
        The pack, and the order in which the blocks stand in it.
    """
    shapes = [_shape(block, blocks, context, sum(specials)) for block in blocks]
    order = sorted(range(len(blocks)), key=shapes.__getitem__)
    starts = _starts(blocks, order)
    tiles = [
        _tile(members, blocks, starts, shape, specials)
        for shape, group in groupby(order, key=shapes.__getitem__)
        for members in _cut(group, max(1, SLICE_ROWS // shape[0]))
    ]
    ids = torch.tensor([token for i in order for token in blocks[i].ids])
    positions = torch.cat([torch.arange(len(blocks[i].ids)) for i in order])
    return Pack(ids, positions, tiles), order


_Shape = tuple[int, int, int]  # rows of a block, rows it sees before, rows it sees after


def _shape(block: Block, blocks: Sequence[Block], context: int, specials: int) -> _Shape:
    before, after = (
        0 if side is None else min(context, len(blocks[side].ids) - specials)
        for side in (block.before, block.after)
    )
    return len(block.ids), before, after


def _starts(blocks: Sequence[Block], order: Sequence[int]) -> list[int]:
    starts = [0] * len(blocks)
    row = 0
    for index in order:
        starts[index] = row
        row += len(blocks[index].ids)
    return starts


def _cut(members: Iterator[int], size: int) -> Iterator[list[int]]:
    while part := list(islice(members, size)):
        yield part


def _tile(
    members: list[int],
    blocks: Sequence[Block],
    starts: Sequence[int],
    shape: _Shape,
    specials: Span,
) -> Tile:
    length, left, right = shape
    head, tail = specials
    own = torch.arange(length)
    # Places in the stream as the block counts them: its neighbours stand before its first token
    # and after its last one, as if the special tokens between were not there.
    around = torch.cat([torch.arange(head - left, head), own, torch.arange(right) + length - tail])
    keys = None
    if left or right:
        keys = torch.stack([_key_rows(i, blocks, starts, shape, specials) for i in members])
    temperature = blocks[members[0]].temperature
    return Tile(starts[members[0]], len(members), length, keys, own, around, temperature)


def _key_rows(
    index: int, blocks: Sequence[Block], starts: Sequence[int], shape: _Shape, specials: Span
) -> Tensor:
    """Rows that a block attends to: its predecessor's end, itself, its successor's start."""
    length, left, right = shape
    block = blocks[index]
    rows = [torch.arange(length) + starts[index]]
    if block.before is not None:
        end = starts[block.before] + len(blocks[block.before].ids) - specials[1]
        rows.insert(0, torch.arange(end - left, end))
    if block.after is not None:
        start = starts[block.after] + specials[0]
        rows.append(torch.arange(start, start + right))
    return torch.cat(rows)
