"""Options of `encode`, under sentence-transformers' names."""

from __future__ import annotations

from typing import Literal, TypedDict

__all__ = ["EncodeOptions", "Precision", "check_options"]

Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]


class EncodeOptions(TypedDict, total=False):
    """Options of `encode`, with sentence-transformers' names and meanings.

    Attributes:
        prompt_name: one of the model's prompts.
        prompt: a prompt of your own; wins over `prompt_name`.
        batch_size: taken for sentence-transformers' sake; batches are cut by tokens, not texts.
        show_progress_bar: None shows one on a terminal when the work takes over two seconds.
        precision: quantised as sentence-transformers does it.
        convert_to_numpy: False gives a list of tensors, one a text.
        normalize_embeddings: scale vectors to length 1.
        truncate_dim: keep so many leading dimensions.
    """

    prompt_name: str | None
    prompt: str | None
    batch_size: int
    show_progress_bar: bool | None
    precision: Precision
    convert_to_numpy: bool
    normalize_embeddings: bool
    truncate_dim: int | None


def check_options(options: EncodeOptions) -> None:
    """Refuse an option that does not exist, with a TypeError that names those that do."""
    unknown = sorted(set(options) - set(EncodeOptions.__annotations__))
    if unknown:
        raise TypeError(
            f"encode: option {unknown[0]!r} is not known; wanted one of "
            f"{', '.join(EncodeOptions.__annotations__)}, convert_to_tensor."
        )
