"""Hits and documents for people and for machines."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from unabridged.cli.console import results

if TYPE_CHECKING:
    from unabridged.collection import FoundPassage, Hit, StoredDocument, StoredPassage, Summary

__all__ = [
    "hit_as_json",
    "passage_as_json",
    "show_facts",
    "show_hits",
    "show_passages",
    "show_summaries",
    "summary_as_json",
]

MOST_LINES = 12
INDENT = "   "
WORD = re.compile(r"\w{3,}")
# Too common in questions to be worth a colour.
COMMON = frozenset(
    ["and", "are", "can", "did", "does", "for", "from", "has", "have", "how", "that", "the",
     "they", "this", "was", "were", "what", "when", "where", "which", "who", "why", "will",
     "their", "them",
     "with", "you", "your", "into", "not", "but", "its", "our"]
)  # fmt: skip


def show_hits(hits: Sequence[Hit], query: str, *, passages: int) -> None:
    """Each document with its best passages, the words of the query in colour."""
    out = results()
    words = _words(query)
    for rank, hit in enumerate(hits, start=1):
        parts = ", ".join(f"{name} {value:.2f}" for name, value in hit.parts.items())
        title = hit.metadata.get("title", "")
        out.print(Text.assemble(f"{rank}. ", (hit.document, "bold"), "  ", (title, "dim")))
        for passage in hit.passages[:passages]:
            place = (_place(hit, passage), "cyan")
            out.print(Text.assemble(INDENT, place, "  ", (parts, "dim")))
            out.print(_excerpt(passage.text, words, out.width), end="\n\n")


def hit_as_json(hit: Hit) -> dict[str, Any]:
    """A hit with everything in it."""
    return asdict(hit)


def show_summaries(summaries: Sequence[Summary]) -> None:
    """One line a document."""
    table = Table(box=None, header_style="dim")
    table.add_column("Document", overflow="fold")
    for name in ("Characters", "Tokens", "Passages", "Read"):
        table.add_column(name, justify="right")
    for summary in summaries:
        coverage = summary.coverage
        counts = (summary.characters, coverage.tokens_total, summary.passages)
        read = f"{coverage.share:.0%}" if coverage.share in (0, 1) else f"{coverage.share:.1%}"
        table.add_row(Text(summary.id), *(f"{count:,}" for count in counts), read)
    results().print(table)


def summary_as_json(summary: Summary) -> dict[str, Any]:
    """A document without its text."""
    return asdict(summary)


def show_facts(document: StoredDocument) -> None:
    """What is known of a document."""
    summary = document.summary
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    facts = {
        "document": summary.id,
        "file": summary.path or "none; its text was handed over",
        "kind": summary.media_type,
        "characters": f"{summary.characters:,}",
        "pages": f"{len(document.page_starts):,}" if document.page_starts else "none",
        "tokens": f"{summary.coverage.tokens_total:,}",
        "passages": f"{summary.passages:,}",
        "read": f"{summary.coverage.share:.1%}",
        "unread": ", ".join(f"characters {a:,} to {b:,}" for a, b in summary.coverage.unread),
        **summary.metadata,
    }
    for name, value in facts.items():
        if value:
            table.add_row(name, Text(value))
    results().print(table)


def show_passages(passages: Sequence[StoredPassage]) -> None:
    """Every passage with its place in the text."""
    out = results()
    for passage in passages:
        start, end = passage.chars
        page = f", page {passage.page}" if passage.page else ""
        place = f"characters {start:,} to {end:,}, line {passage.line}{page}"
        out.print(Text(place, "cyan"))
        out.print(Text(textwrap.indent(passage.text, INDENT)), end="\n\n")


def passage_as_json(passage: StoredPassage) -> dict[str, Any]:
    """A passage without its vector, which is no reading for people or shells."""
    fields = ("text", "chars", "tokens", "line", "line_end", "page")
    return {name: getattr(passage, name) for name in fields}


def _place(hit: Hit, passage: FoundPassage) -> str:
    """`file:line` where an editor could jump to it, else the page, or the line of the text."""
    # Loaded already wherever there is a hit.
    from unabridged.collection.documents import media_type

    name = _near(hit.path) or hit.document
    if passage.page:
        return f"{name}, page {passage.page}"
    is_plain = media_type(Path(name)) in {"text/plain", "text/markdown"}
    return f"{name}:{passage.line}" if is_plain else f"{name}, line {passage.line} of its text"


def _near(path: str | None) -> str | None:
    """A path as short as it can be typed from here."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if path and Path(path).is_relative_to(here) else path


def _words(query: str) -> list[str]:
    found = dict.fromkeys(word.lower() for word in WORD.findall(query))
    return [word for word in found if word not in COMMON][:64]


def _excerpt(passage: str, words: Sequence[str], width: int) -> Text:
    """The lines of a passage around the first that has a word of the query."""
    # A passage may begin within a line, whose indentation then is not in it.
    head, _, rest = passage.expandtabs(4).strip("\n").partition("\n")
    whole = [head.strip(), *textwrap.dedent(rest).splitlines()]
    lines = [part for line in whole for part in textwrap.wrap(line, width - len(INDENT))]
    pattern = re.compile("|".join(map(re.escape, words)) or "(?!)", re.IGNORECASE)
    first = next((n for n, line in enumerate(lines) if pattern.search(line)), 0)
    start = max(0, min(first - 1, len(lines) - MOST_LINES))
    shown = lines[start : start + MOST_LINES]
    more = (["…"] if start else [], ["…"] if start + len(shown) < len(lines) else [])
    text = Text(textwrap.indent("\n".join([*more[0], *shown, *more[1]]), INDENT))
    text.highlight_regex(re.compile(rf"\b(?:{pattern.pattern})\w*", re.IGNORECASE), "bold yellow")
    return text
