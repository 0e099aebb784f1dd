"""Text to token ids with character offsets, at any length, exactly as the model's tokenizer does.

A tokenizer handed 50 MB at once would need gigabytes. Text is cut into pieces where a word ends,
which changes no token, and the offsets of every piece are shifted back into the whole.
"""

from __future__ import annotations

import itertools
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, normalizers
from transformers import AutoTokenizer

from unabridged._errors import ModelError
from unabridged._reading import Span

__all__ = ["TextTokenizer", "Tokens", "load_tokenizer", "pieces"]

PIECE_CHARACTERS = 1 << 15
_PIECES_AT_ONCE = 16
_JOINERS = "\u200d\ufe0e\ufe0f"  # zero-width joiner and variation selectors bind to what precedes


@dataclass(frozen=True)
class Tokens:
    """A text as tokens, special tokens not among them.

    Attributes:
        ids: (T,) int32.
        chars: (T, 2) int64, character span of each token in the original string.
        unknown: spans that the tokenizer could only show as its unknown token.
    """

    ids: NDArray[np.int32]
    chars: NDArray[np.int64]
    unknown: tuple[Span, ...]

    def __len__(self) -> int:
        return len(self.ids)


class TextTokenizer:
    """A fast tokenizer that never truncates and never pads."""

    def __init__(self, backend: Tokenizer, unknown_id: int | None) -> None:
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._unknown_id = unknown_id

    @cached_property
    def specials(self) -> tuple[list[int], list[int]]:
        """Ids that stand before and after a text, such as [CLS] and [SEP]."""
        bare = self._backend.encode("a", add_special_tokens=False).ids
        full = self._backend.encode("a", add_special_tokens=True).ids
        for start in range(len(full) - len(bare) + 1):
            if full[start : start + len(bare)] == bare:
                return full[:start], full[start + len(bare) :]
        raise ModelError(
            "tokenizer: adding special tokens changes the text's own tokens; wanted ones that "
            "stand before and after it."
        )

    def count(self, text: str) -> int:
        """Number of tokens of a text, special tokens not counted."""
        total = 0
        for group in _groups(text):
            encodings = self._backend.encode_batch_fast(
                [text[start:end] for start, end in group], add_special_tokens=False
            )
            total += sum(len(encoding.ids) for encoding in encodings)
        return total

    def __call__(self, text: str) -> Tokens:
        """Tokens of a text, with their places in it."""
        ids: list[NDArray[np.int32]] = [np.empty(0, np.int32)]
        chars: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
        for group in _groups(text):
            encodings = self._backend.encode_batch(
                [text[start:end] for start, end in group], add_special_tokens=False
            )
            for (start, _), encoding in zip(group, encodings, strict=True):
                ids.append(np.array(encoding.ids, np.int32))
                chars.append(np.array(encoding.offsets, np.int64).reshape(-1, 2) + start)
        all_ids, all_chars = np.concatenate(ids), np.concatenate(chars)
        return Tokens(all_ids, all_chars, self._unknown(all_ids, all_chars))

    def _unknown(self, ids: NDArray[np.int32], chars: NDArray[np.int64]) -> tuple[Span, ...]:
        if self._unknown_id is None:
            return ()
        return tuple((int(a), int(b)) for a, b in chars[ids == self._unknown_id])


def load_tokenizer(folder: Path, *, lowercase: bool) -> TextTokenizer:
    """The tokenizer of a model folder.

    Args:
        folder: the transformer's folder.
        lowercase: whether sentence-transformers lowers the text first (`do_lower_case`).

    Raises:
        ModelError: there is none, or it has no fast version and so knows no offsets.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise ModelError(
            f"tokenizer: {folder} has none that loads ({error}); copy the whole model folder."
        ) from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"tokenizer: {type(tokenizer).__name__} knows no character offsets; wanted a fast "
            "one, so save it again with `AutoTokenizer.from_pretrained(..., use_fast=True)`."
        )
    backend: Tokenizer = tokenizer.backend_tokenizer
    if lowercase:
        rest = [backend.normalizer] if backend.normalizer else []
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *rest])
    return TextTokenizer(backend, tokenizer.unk_token_id)


def pieces(text: str, limit: int = PIECE_CHARACTERS) -> Iterator[Span]:
    """Cut a text where a word ends, into spans of at most `limit` characters.

    The white space goes with the word after it, as byte-level tokenizers want it. Only a run of
    more than `limit` characters without white space is cut inside.

    >>> list(pieces("one two  three", 8))
    [(0, 7), (7, 14)]
    """
    start = 0
    while start < len(text):
        end = start + limit
        if end < len(text):
            end = _word_end(text, start, end)
        yield start, min(end, len(text))
        start = end


def _word_end(text: str, start: int, end: int) -> int:
    cut = max(text.rfind(space, start, end + 1) for space in (" ", "\n", "\t"))
    while cut > start and text[cut - 1].isspace():
        cut -= 1
    if cut > start:
        return cut
    cut = end
    while cut > start + 1 and (unicodedata.combining(text[cut]) or text[cut] in _JOINERS):
        cut -= 1
    return cut


def _groups(text: str) -> Iterator[list[Span]]:
    spans = pieces(text)
    while group := list(itertools.islice(spans, _PIECES_AT_ONCE)):
        yield group
