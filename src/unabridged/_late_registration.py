"""Gives transformers our attentions once both packages are imported, in whichever order.

`import unabridged` must not load transformers, and transformers must know the names before a model
asks for one. So an import hook waits for the one module that keeps the table of attentions; what
is put there is a stand-in that loads the real function on its first call. Nothing here imports
more than the standard library.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial, wraps
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

__all__ = ["NAMES", "watch"]

NAMES = ("exact", "favor", "multipole", "auto")
"""What `attn_implementation` may be; the same names as `attention.choices.ATTENTIONS`."""

_TABLE = "transformers.modeling_utils"
_REGISTRY = "unabridged.encoder.registry"


def watch() -> None:
    """Register now if transformers is there, else as soon as it is. Calling twice does no harm."""
    if _TABLE in sys.modules:
        _register(sys.modules[_TABLE])
    elif not any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watcher())


class _Watcher(MetaPathFinder):
    """Finds nothing itself; has the table's module register us when it has run."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  the protocol of finders
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname != _TABLE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_register(module: ModuleType) -> None:
                run(module)
                _register(module)

            # On the instance: the loader stays of its kind, for those who ask it for sources.
            vars(spec.loader)["exec_module"] = run_and_register
        return spec


def _register(table: ModuleType) -> None:
    masks = import_module("transformers.masking_utils").AttentionMaskInterface
    for name in NAMES:
        table.AttentionInterface.register(name, partial(_attend, name))
        masks.register(name, _mask)
    known = table.PreTrainedModel.get_correct_attn_implementation
    if not hasattr(known, "__wrapped__"):
        table.PreTrainedModel.get_correct_attn_implementation = _asking_us_first(known)


def _attend(name: str, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  transformers' own
    return import_module(_REGISTRY).attend(name, *arguments, **options)


def _mask(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
    return import_module(_REGISTRY).padding_mask(*arguments, **options)


def _asking_us_first(known: Any) -> Any:  # noqa: ANN401
    """Settings saved in a config are applied, and models that would ignore a name are refused."""

    @wraps(known)
    def get_correct_attn_implementation(
        model: Any,  # noqa: ANN401
        requested_attention: str | None,
        *arguments: Any,  # noqa: ANN401
        **options: Any,  # noqa: ANN401
    ) -> str:
        ours = requested_attention in NAMES or hasattr(model.config, "unabridged_attention")
        if ours:
            requested_attention = import_module(_REGISTRY).settle(model, requested_attention)
        applied: str = known(model, requested_attention, *arguments, **options)
        return applied

    return get_correct_attn_implementation
