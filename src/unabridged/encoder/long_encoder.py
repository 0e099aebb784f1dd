"""LongEncoder: sentence-transformers' interface, and nothing is cut."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal, Unpack, cast, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unabridged._reading import Reading
from unabridged.attention.choices import AttentionName, describe, make_attention
from unabridged.attention.protocol import Attention
from unabridged.encoder.checkpoint import find_checkpoint
from unabridged.encoder.forward import Forward
from unabridged.encoder.loading import load_weights
from unabridged.encoder.options import EncodeOptions, Precision, check_options
from unabridged.encoder.pipeline import Pipeline
from unabridged.encoder.pooling import load_head
from unabridged.encoder.precision import probe_precision
from unabridged.encoder.progress import progress
from unabridged.encoder.reading import Full, Reader, ReaderName, make_reader
from unabridged.encoder.registry import saved_attention
from unabridged.encoder.similarity import SIMILARITIES
from unabridged.encoder.surgery import dissect
from unabridged.encoder.tokens import load_tokenizer

__all__ = ["DEFAULT_READER", "EncodeOptions", "LongEncoder"]

DEFAULT_READER: ReaderName = "chunks"
"""Chosen by measurement; see LOG.md."""

Dtype = Literal["auto", "float32", "bfloat16"]
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")


class LongEncoder:
    """The encoder that you have, reading whole documents on a CPU.

    A text that fits the model gets exactly the vector that sentence-transformers gives it (to the
    rounding of `dtype`). A longer one is read passage by passage to its end; its vector is the mean
    of its passages' vectors.

    Args:
        model: a folder or a Hub id of a BERT, RoBERTa, XLM-R, DistilBERT, ELECTRA, ALBERT or MPNet
            encoder, as sentence-transformers or as plain transformers saves it; None for the
            packaged default, all-MiniLM-L6-v2.
        reader: "chunks", "windows", "full", "truncate", or a reader with other settings.
        dtype: "float32", "bfloat16", or "auto": what this processor does well.
        attention: a name of `unabridged.attention.choices`, or an attention with settings of
            yours; None for the one that the checkpoint was saved with, and without one PyTorch's
            fused attention, which is exact.

    Raises:
        ModelError: no such model, a damaged one, or one of another family.

    >>> encoder = LongEncoder()
    >>> encoder.encode("a short text").shape
    (384,)
    >>> reading = encoder.read("word " * 1000)
    >>> len(reading), reading.coverage.share
    (8, 1.0)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        reader: Reader | ReaderName = DEFAULT_READER,
        dtype: Dtype = "auto",
        attention: Attention | AttentionName | None = None,
    ) -> None:
        self.checkpoint = find_checkpoint(model)
        self.reader = make_reader(reader)
        self.dtype = _dtype(dtype)
        self._head = load_head(self.checkpoint.folder)
        tokenizer = load_tokenizer(self.checkpoint.transformer, lowercase=self._head.lowercase)
        loaded = load_weights(self.checkpoint)
        architecture = dissect(loaded)
        self._positions = architecture.positions
        if attention is not None:
            self.attention: Attention | None = make_attention(attention)
        else:  # relative biases know one attention only, and need not be told
            saved = None if architecture.position_bias else saved_attention(loaded.config)
            self.attention = saved
        forward = Forward(architecture, self.dtype, self.attention)
        self._pipeline = Pipeline(
            tokenizer, forward, self._head, len(architecture.layers), self._positions
        )
        self._check_passage()
        self.dimension = len(self._whole(""))

    @property
    def max_length(self) -> int:
        """Tokens, special ones not counted, that the model reads in one piece."""
        longest = min(self._head.max_length or self._positions, self._positions)
        return longest - sum(len(part) for part in self._pipeline.tokenizer.specials)

    @property
    def prompts(self) -> dict[str, str]:
        """The model's own prompts, by name."""
        return dict(self._head.prompts)

    @property
    def fingerprint(self) -> dict[str, str]:
        """Everything that changes a vector, for a collection to remember.

        The dtype is not in it: bfloat16 and float32 vectors of a text agree to a cosine of 0.9998,
        and a collection made on one processor must open on another.
        """
        return {
            "model": self.checkpoint.digest,
            "reader": type(self.reader).__name__.lower(),
            **{f"reader.{name}": str(value) for name, value in asdict(self.reader).items()},
            **({} if self.attention is None else {"attention": describe(self.attention)}),
            "format": "1",
        }

    def read(self, text: str, *, prompt: str | None = None) -> Reading:
        """Read one document: its tokens, its passages with their places, and its coverage.

        Args:
            text: a document of any length.
            prompt: stands before every passage; None for the model's own document prompt.

        >>> reading = LongEncoder().read("Nothing is cut. " * 100)
        >>> start, end = reading.passages[-1].chars
        >>> ("Nothing is cut. " * 100)[start:end].endswith("is cut.")
        True
        """
        return next(self.read_many([text], prompt=prompt))

    def read_many(
        self,
        texts: Iterable[str],
        *,
        prompt: str | None = None,
        on_tokens: Callable[[int], None] | None = None,
    ) -> Iterator[Reading]:
        """Readings of many documents, lazily and in order; short ones share a pass.

        Args:
            texts: pulled only as far ahead as a batch needs.
            prompt: stands before every passage; None for the model's own document prompt.
            on_tokens: called with the number of tokens read since its last call.
        """
        prompt = self._named_prompt(_DOCUMENT_PROMPTS) if prompt is None else prompt
        self._check_prompt(prompt)
        for reading in self._pipeline.read_many(
            texts, self.reader, prompt=prompt, on_tokens=on_tokens
        ):
            yield reading if len(reading) else _without_passages(reading, self.dimension)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, special ones not counted."""
        return self._pipeline.tokenizer.count(text)

    @overload
    def encode(
        self,
        inputs: str | Sequence[str],
        *,
        convert_to_tensor: Literal[True],
        **options: Unpack[EncodeOptions],
    ) -> Tensor: ...
    @overload
    def encode(
        self,
        inputs: str | Sequence[str],
        *,
        convert_to_tensor: Literal[False] = False,
        **options: Unpack[EncodeOptions],
    ) -> NDArray[Any]: ...
    def encode(
        self,
        inputs: str | Sequence[str],
        *,
        convert_to_tensor: bool = False,
        **options: Unpack[EncodeOptions],
    ) -> NDArray[Any] | Tensor:
        """One vector a text, as sentence-transformers' `encode` gives it, of the whole text.

        Args:
            inputs: a text, for a vector (D,), or several, for (n, D).
            convert_to_tensor: a tensor in place of a numpy array.
            **options: see `EncodeOptions`.

        Raises:
            TypeError: an input is not a string, or an option is unknown.
            ValueError: an unknown prompt name.
        """
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        _check_texts(texts)
        check_options(options)
        prompt = self._prompt(options.get("prompt"), options.get("prompt_name"))
        vectors = self._vectors(texts, prompt, options.get("show_progress_bar"))
        vectors = vectors[:, : options.get("truncate_dim")]
        if options.get("normalize_embeddings"):
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
        chosen = _quantised(vectors, options.get("precision", "float32"))
        if isinstance(inputs, str):
            chosen = chosen[0]
        if convert_to_tensor:
            return chosen
        as_numpy = options.get("convert_to_numpy", True)
        return chosen.numpy() if as_numpy else cast("NDArray[Any]", list(chosen))

    def encode_query(
        self, inputs: str | Sequence[str], **options: Unpack[EncodeOptions]
    ) -> NDArray[Any]:
        """`encode` with the model's own prompt for queries, where it has one."""
        options.setdefault("prompt", self._named_prompt(("query",)))
        return self.encode(inputs, **options)

    def encode_document(
        self, inputs: str | Sequence[str], **options: Unpack[EncodeOptions]
    ) -> NDArray[Any]:
        """`encode` with the model's own prompt for documents, where it has one."""
        options.setdefault("prompt", self._named_prompt(_DOCUMENT_PROMPTS))
        return self.encode(inputs, **options)

    def similarity(self, left: NDArray[Any] | Tensor, right: NDArray[Any] | Tensor) -> Tensor:
        """Similarities (n, m) of two sets of vectors, by the function the model was trained for."""
        return SIMILARITIES[self._head.similarity](torch.as_tensor(left), torch.as_tensor(right))

    def _vectors(self, texts: list[str], prompt: str, show: bool | None) -> Tensor:
        vectors = np.empty((len(texts), self.dimension), np.float32)
        readings = self._pipeline.read_many(
            texts, self.reader, prompt=prompt, whole_up_to=self._room(prompt)
        )
        lengths = [len(text) for text in texts]
        for row, reading in enumerate(progress(readings, lengths, "encoding", show)):
            vectors[row] = reading.vector
        return self._head.finish(torch.from_numpy(vectors))

    def _whole(self, text: str) -> NDArray[np.float32]:
        readings = self._pipeline.read_many([text], self.reader, whole_up_to=self._room(""))
        return next(readings).vector

    def _room(self, prompt: str) -> int:
        """Tokens of a text that fit beside a prompt."""
        return self.max_length - (self.count_tokens(prompt) if prompt else 0)

    def _prompt(self, prompt: str | None, name: str | None) -> str:
        if prompt is None and name is not None and name not in self._head.prompts:
            known = ", ".join(self._head.prompts) or "none"
            raise ValueError(
                f"encode: prompt_name is {name!r}, and the model's prompts are: {known}; "
                "pass one of these, or the text itself as prompt."
            )
        chosen = prompt if prompt is not None else self._head.prompts.get(name or "", "")
        self._check_prompt(chosen)
        return chosen

    def _named_prompt(self, names: Sequence[str]) -> str:
        return next((self._head.prompts[n] for n in names if n in self._head.prompts), "")

    def _check_prompt(self, prompt: str) -> None:
        passage = _block_tokens(self.reader)
        room = self._positions - passage - 2
        if prompt and (length := self.count_tokens(prompt)) > room:
            raise ValueError(
                f"prompt: has {length} tokens, and passages of {passage} leave room "
                f"for {room} in {self._positions} positions; shorten it or the passages."
            )

    def _check_passage(self) -> None:
        specials = sum(len(part) for part in self._pipeline.tokenizer.specials)
        passage = _block_tokens(self.reader)
        if passage + specials > self._positions:
            raise ValueError(
                f"reader: passages of {passage} tokens and {specials} special ones do "
                f"not fit the model's {self._positions} positions; wanted at most "
                f"{self._positions - specials}."
            )
        late = isinstance(self.reader, Full) and self.reader.passage is not None
        if late and (placed := {"cls", "lasttoken"} & set(self._head.modes)):
            raise ValueError(
                f"reader: late chunks are pooled from the middle of a pass, and this model takes "
                f"its vector from one place of it ({', '.join(placed)}); use Full(), or Chunks()."
            )


def _block_tokens(reader: Reader) -> int:
    """Tokens that a block must hold at least; one pass takes whatever there is room for."""
    return 1 if isinstance(reader, Full) else reader.passage


def _dtype(name: Dtype) -> torch.dtype:
    if name == "auto":
        return probe_precision().dtype
    if name not in ("float32", "bfloat16"):
        raise ValueError(f"dtype: got {name!r}, wanted 'auto', 'float32' or 'bfloat16'.")
    return torch.float32 if name == "float32" else torch.bfloat16


def _quantised(vectors: Tensor, precision: Precision) -> Tensor:
    if precision == "float32":
        return vectors
    from sentence_transformers.util.quantization import quantize_embeddings

    return torch.from_numpy(quantize_embeddings(vectors.numpy(), precision))


def _check_texts(texts: list[Any]) -> None:
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(
                f"encode: input {index} is {type(text).__name__}, wanted str; decode it first."
            )


def _without_passages(reading: Reading, dimension: int) -> Reading:
    """A document without a token: no passages, vectors (0, D)."""
    return Reading(
        reading.token_ids,
        reading.token_chars,
        np.empty((0, dimension), np.float32),
        reading.passage_tokens,
        reading.passage_chars,
        reading.coverage,
    )
