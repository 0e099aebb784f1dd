"""BM25 from LanceDB's full-text indexes, over whole documents and over passages."""

from __future__ import annotations

import pyarrow as pa
from lancedb.query import MatchQuery
from lancedb.table import Table

__all__ = ["bm25", "words_of"]

MOST_WORDS = 256
MOST_CHARACTERS = 4096


def words_of(query: str) -> str:
    r"""What of a query is looked up: all of it, unless it is very long.

    Of a long query the first `MOST_WORDS` different words count (and `MOST_CHARACTERS`, where
    words are not told apart by spaces): each is looked up in the index, so the cost grows with
    their number. No sign is an operator; the query is handed over as words, never parsed.

    >>> words_of("  the cost\n of it ")
    'the cost of it'
    """
    words = query.split()
    if len(words) > MOST_WORDS:
        words = list(dict.fromkeys(words))[:MOST_WORDS]
    return " ".join(words)[:MOST_CHARACTERS]


def bm25(table: Table, query: str, *, columns: list[str], limit: int) -> pa.Table:
    """The rows that hold a word of the query, with their `_score`, best first.

    Args:
        table: with a full-text index on column `text`.
        query: any text; signs are harmless.
        columns: to give back.
        limit: at most so many rows.
    """
    search = table.search(MatchQuery(words_of(query), "text"), query_type="fts")
    return search.select([*columns, "_score"]).limit(max(1, limit)).to_arrow()
