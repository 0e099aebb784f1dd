"""Attentions by name, and as settings that stand in a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Literal, cast

from unabridged.attention.dispatch import Auto
from unabridged.attention.exact import Exact
from unabridged.attention.favor import Favor
from unabridged.attention.multipole import Multipole
from unabridged.attention.protocol import Attention

__all__ = [
    "ATTENTIONS",
    "AttentionName",
    "describe",
    "from_settings",
    "make_attention",
    "settings_of",
]

AttentionName = Literal["exact", "favor", "multipole", "auto"]
"""What `make_attention` takes for an attention with its default settings."""

_MEMBERS: dict[str, type[Any]] = {
    "exact": Exact,
    "favor": Favor,
    "multipole": Multipole,
    "auto": Auto,
}

ATTENTIONS: tuple[str, ...] = tuple(_MEMBERS)
"""All names, in the order in which messages list them."""


def make_attention(attention: str | Attention) -> Attention:
    """An attention by its name, with default settings; an attention is returned as it is.

    Raises:
        ValueError: a name that is none of `ATTENTIONS`.
        TypeError: neither a name nor something to call.

    >>> make_attention("exact")
    Exact(tile=256, kernel='auto')
    """
    if isinstance(attention, str):
        return cast("Attention", _member(attention)())
    if isinstance(attention, type) or not callable(attention):
        raise TypeError(
            f"attention: {attention!r} is neither a name nor an attention; pass one of "
            f"{', '.join(ATTENTIONS)}, or an object such as Exact(tile=128)."
        )
    return attention


def settings_of(attention: Attention) -> dict[str, Any]:
    """The name of an attention and all its settings, ready for JSON.

    Raises:
        ValueError: an attention of the caller's own, which no name brings back.

    >>> settings_of(Exact(tile=128))
    {'name': 'exact', 'tile': 128, 'kernel': 'auto'}
    """
    for name, member in _MEMBERS.items():
        if type(attention) is member:
            return {"name": name, **asdict(cast("Any", attention))}
    raise ValueError(
        f"attention: {type(attention).__name__} has no name to be saved by; wanted one of the "
        f"kinds {', '.join(ATTENTIONS)}."
    )


def describe(attention: Attention) -> str:
    """Everything that makes an attention what it is, as one line of JSON.

    An attention of the caller's own is described by its `repr`, which no function here reads back.

    >>> describe(Exact(tile=128))
    '{"kernel": "auto", "name": "exact", "tile": 128}'
    """
    try:
        return json.dumps(settings_of(attention), sort_keys=True)
    except ValueError:
        return repr(attention)


def from_settings(settings: Mapping[str, Any]) -> Attention:
    """The attention that `settings_of` described.

    Settings that are absent take their defaults, so that older files go on loading.

    Raises:
        ValueError: an unknown name or setting, or a value that the attention refuses.

    >>> from_settings({"name": "exact", "tile": 128})
    Exact(tile=128, kernel='auto')
    """
    given = {key: value for key, value in settings.items() if key != "name"}
    name = settings.get("name")
    return cast("Attention", _made(_member(name), given, str(name)))


def _made(member: type[Any], given: Mapping[str, Any], name: str) -> object:
    """A dataclass of settings, those of members inside it likewise."""
    known = {field.name: field.default for field in fields(member)}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(
            f"attention: {name!r} has no setting {unknown[0]!r}; wanted some of "
            f"{', '.join(known)}; the file may be of a newer version, so update unabridged."
        )
    inner = {
        key: _made(type(known[key]), value, f"{name}.{key}")
        for key, value in given.items()
        if is_dataclass(known[key]) and isinstance(value, Mapping)
    }
    return member(**{**given, **inner})


def _member(name: object) -> type[Any]:
    if isinstance(name, str) and name in _MEMBERS:
        return _MEMBERS[name]
    raise ValueError(f"attention: got {name!r}; wanted one of {', '.join(ATTENTIONS)}.")
