"""A checkpoint with a longer position table, saved so that it loads everywhere without us."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig

from unabridged._errors import ModelError
from unabridged.encoder.checkpoint import DEFAULT_MODEL, Checkpoint, find_checkpoint
from unabridged.encoder.loading import load_weights, read_weights
from unabridged.encoder.model_card import model_card
from unabridged.encoder.residual import RESIDUAL, closed_gates
from unabridged.encoder.surgery import check_lengthenable, position_rows, with_positions
from unabridged.positions import SCHEMES, Scheme, default_base, sinusoidal

__all__ = ["Extension", "extend"]

_WITH_ALPHA = ("hierarchical", "interpolated-hierarchical")
_LEFT_OUT = ("onnx", "openvino", ".git", ".cache", "__pycache__")
_WEIGHTS = (".safetensors", ".bin", ".index.json", ".h5", ".msgpack", ".ot", ".onnx")


@dataclass(frozen=True)
class Extension:
    """What `extend` did.

    Attributes:
        folder: where the new model is.
        source: name of the model that it was made from.
        source_digest: SHA-256 of that model's weights and tokenizer.
        scheme: how rows were made; "sinusoidal" where the table followed that formula.
        alpha: of the hierarchical schemes, else None.
        base: how many rows the scheme built on; None for sinusoids.
        positions_before: tokens, special ones included, that the source took.
        positions: the same of the new model.
        gates: where those of residual attention stand; None where there are none.
        short_difference: largest difference of any token state between the two models on one
            input that fills the old table; measured on the saved files.
    """

    folder: Path
    source: str
    source_digest: str
    scheme: str
    alpha: float | None
    base: int | None
    positions_before: int
    positions: int
    gates: str | None = None
    short_difference: float = float("nan")


def extend(
    model: str | os.PathLike[str] | None,
    out: str | os.PathLike[str],
    *,
    max_length: int = 8192,
    scheme: Scheme = "hierarchical",
    alpha: float | None = None,
    base: int | None = None,
    residual_attention: bool = False,
) -> Extension:
    """Give a BERT-type encoder more positions, and save it as a stock checkpoint.

    Nothing is trained: rows are added to the position table, and config and tokenizer are told.
    All other weights, heads included, stay as they are. With "hierarchical" and "recurrent" every
    input that the old model took whole gives the same states; the other schemes change those too,
    and `short_difference` says by how much. The folder loads in transformers, and in
    sentence-transformers where the source did, without this package and without remote code; its
    README.md says what was done. It appears all at once or not at all.

    A sinusoidal table (some DistilBERT checkpoints) is continued by its formula, whatever the
    scheme.

    Args:
        model: a folder or Hub id of one of the families that `LongEncoder` takes; None for the
            packaged default.
        out: the folder to make; must not exist.
        max_length: tokens, special ones included, that the new model takes.
        scheme: see `unabridged.positions`; always in the form that keeps row 0 for [CLS].
        alpha: of the hierarchical schemes, in (0, 1) and not 0.5; None for 0.4.
        base: how many rows to build on, from row 1 on; None for all but the first and last two.
            Fewer may serve a model whose later rows were hardly trained.
        residual_attention: whether to put gates into the layers, all at 0, so that training may
            let layers add the scores of those before (RealFormer). The model is the same while
            they are 0; once they are not, only this package reads it as it was trained.

    Raises:
        ModelError: no such model, a damaged one, one without a table of absolute positions, one
            that is unable to be residual, or `out` exists.
        ValueError: max_length below the table or above the capacity, alpha or base out of range.

    >>> with tempfile.TemporaryDirectory() as place:
    ...     made = extend(None, Path(place) / "longer", max_length=4096)
    >>> made.positions_before, made.positions, made.short_difference
    (512, 4096, 0.0)
    """
    checkpoint = _find(model)
    target = _free_place(out, checkpoint)
    check_lengthenable(_json(checkpoint.transformer / "config.json"))
    config = AutoConfig.from_pretrained(str(checkpoint.transformer), local_files_only=True)
    load_weights(checkpoint)  # refuses what is damaged or not whole, before anything is written
    weights = read_weights(checkpoint.transformer)
    rows = position_rows(config, weights)
    plan = Extension(
        folder=target,
        source=_public_name(checkpoint),
        source_digest=checkpoint.digest,
        scheme=scheme,
        alpha=_alpha(scheme, alpha),
        base=default_base(len(rows)) if base is None else base,
        positions_before=len(rows),
        positions=max_length,
    )
    longer, plan = _lengthened(rows, plan)
    settings, weights = with_positions(config, weights, longer)
    if residual_attention:
        weights = {**weights, **closed_gates(config, weights)}
        settings = {**settings, RESIDUAL: {}}
        plan = replace(plan, gates="gates of all layers at 0, to be opened by training")
    return _write_at_once(checkpoint, plan, settings, weights)


def _find(model: str | os.PathLike[str] | None) -> Checkpoint:
    """A checkpoint; the default model also by its name, since its package is not the Hub cache."""
    names = (DEFAULT_MODEL, DEFAULT_MODEL.rpartition("/")[2])
    if model is not None and str(model) in names and not Path(model).is_dir():
        return find_checkpoint(None)
    return find_checkpoint(model)


def _free_place(out: str | os.PathLike[str], checkpoint: Checkpoint) -> Path:
    target = Path(out).expanduser().absolute()
    if target.exists():
        raise ModelError(
            f"extend: {target} exists already and is left as it is; name a new folder, or remove "
            "that one first."
        )
    if target.resolve().is_relative_to(checkpoint.folder.resolve()):
        raise ModelError(f"extend: {target} lies inside the model's own folder; name another.")
    return target


def _alpha(scheme: Scheme, alpha: float | None) -> float | None:
    if scheme not in SCHEMES:
        raise ValueError(f"scheme: got {scheme!r}, wanted one of {', '.join(SCHEMES)}.")
    if scheme in _WITH_ALPHA:
        return 0.4 if alpha is None else alpha
    if alpha is not None:
        raise ValueError(
            f"alpha: is {alpha}, but the scheme {scheme!r} has none; leave it out, or take one of "
            f"{', '.join(_WITH_ALPHA)}."
        )
    return None


def _lengthened(rows: Tensor, plan: Extension) -> tuple[Tensor, Extension]:
    """The longer table (N, D), and the plan as it was carried out."""
    options = {} if plan.alpha is None else {"alpha": plan.alpha}
    longer = SCHEMES[plan.scheme](rows, plan.positions, base=plan.base, **options)  # type: ignore[index]
    if rows.shape[1] % 2:
        return longer, plan
    formula = sinusoidal(plan.positions, rows.shape[1], dtype=rows.dtype)
    if not torch.allclose(rows, formula[: len(rows)], rtol=0, atol=1e-4):
        return longer, plan
    continued = torch.cat([rows, formula[len(rows) :]])
    return continued, replace(plan, scheme="sinusoidal", alpha=None, base=None)


def _write_at_once(
    checkpoint: Checkpoint, plan: Extension, settings: dict[str, Any], weights: dict[str, Tensor]
) -> Extension:
    """Write beside the target, measure what was written, and only then give it its name."""
    plan.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unabridged-", dir=plan.folder.parent) as place:
        folder = Path(place) / "model"
        shutil.copytree(
            checkpoint.folder,
            folder,
            ignore=lambda where, names: _left_out(checkpoint, where, names),
            copy_function=shutil.copyfile,
        )
        inner = folder / checkpoint.transformer.relative_to(checkpoint.folder)
        stored = inner / "model.safetensors"
        save_file(weights, stored, metadata={"format": "pt"})
        stored.chmod((inner / "config.json").stat().st_mode)  # safetensors lets only the owner read
        _update_json(inner / "config.json", settings)
        _raise_limits(folder, inner, plan.positions)
        plan = replace(plan, short_difference=_difference(checkpoint, find_checkpoint(folder)))
        original = checkpoint.folder / "README.md"
        text = original.read_text(encoding="utf-8") if original.exists() else ""
        is_sentence_model = (folder / "modules.json").exists()
        card = model_card(asdict(plan), original=text, stock=is_sentence_model)
        (folder / "README.md").write_text(card, encoding="utf-8")
        folder.rename(plan.folder)
    return plan


def _left_out(checkpoint: Checkpoint, where: str, names: list[str]) -> set[str]:
    """Weights of the transformer in any format: they hold the old table."""
    left_out = {name for name in names if name in _LEFT_OUT}
    if Path(where) == checkpoint.transformer:
        left_out |= {name for name in names if name.endswith(_WEIGHTS)}
    return left_out


def _raise_limits(folder: Path, inner: Path, length: int) -> None:
    """Tell the tokenizer and sentence-transformers how long inputs may be."""
    for path in {*inner.glob("sentence_*_config.json"), *folder.glob("sentence_*_config.json")}:
        if "max_seq_length" in _json(path):
            _update_json(path, {"max_seq_length": length})
    config = inner / "tokenizer_config.json"
    known = _json(config) if config.exists() else {}
    names = {"model_max_length", *({"max_length", "max_len"} & known.keys())}
    _update_json(config, dict.fromkeys(sorted(names), length))
    fast = inner / "tokenizer.json"
    if fast.exists() and (truncation := _json(fast).get("truncation")):
        _update_json(fast, {"truncation": {**truncation, "max_length": length}})


@torch.no_grad()
def _difference(before: Checkpoint, after: Checkpoint) -> float:
    """Largest difference of token states on one input as long as the old table."""
    old, new = load_weights(before), load_weights(after)
    ids = _input_as_long_as_the_table(old.config, read_weights(before.transformer))
    apart = old(input_ids=ids).last_hidden_state - new(input_ids=ids).last_hidden_state
    return float(apart.abs().max())


def _input_as_long_as_the_table(config: PretrainedConfig, weights: Mapping[str, Tensor]) -> Tensor:
    count = len(position_rows(config, weights))
    ids = torch.randint(config.vocab_size, (1, count), generator=torch.Generator().manual_seed(0))
    ids[ids == config.pad_token_id] = config.vocab_size - 1  # padding has no position of its own
    return ids


def _public_name(checkpoint: Checkpoint) -> str:
    """A Hub id as it is, of a folder its last part: a card is no place for somebody's paths."""
    return checkpoint.folder.resolve().name if Path(checkpoint.name).exists() else checkpoint.name


def _json(path: Path) -> Any:  # noqa: ANN401  JSON is whatever it is
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model: {path} is not readable JSON ({error}).") from error


def _update_json(path: Path, values: Mapping[str, Any]) -> None:
    known = _json(path) if path.exists() else {}
    text = json.dumps({**known, **values}, ensure_ascii=False, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
