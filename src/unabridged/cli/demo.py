"""`unabridged demo`."""

from __future__ import annotations

from rich.text import Text

from unabridged.cli import demonstration, opening, showing, syncing
from unabridged.cli.console import print_json, results, say, waiting
from unabridged.cli.options import AsJson, Quiet

__all__ = ["demo"]

NEXT = """\
What to type next:
  unabridged search "how do I measure elapsed time?"     ask this collection
  unabridged audit {documents}     what a model alone would not see
  unabridged index FOLDER     your own documents; then just `unabridged search "…"`"""


def demo(quiet: Quiet = False, as_json: AsJson = False) -> None:
    """Index the documentation of Python's standard library, and answer three questions about it.

    Some 200 documents and 380,000 words, which are on every machine that has Python: a few minutes
    the first time, seconds later. Nothing is downloaded.

    For example:

    - `unabridged demo`
    """
    if not quiet:
        say("Writing out the documentation of Python's standard library and reading it whole.")
    with waiting("Writing and loading", quiet=quiet):
        documents, folder = demonstration.documents_folder(), demonstration.collection_folder()
        collection = opening.collection_to_write(folder, None)
    report = syncing.sync(collection, documents, vanished="remove", quiet=quiet)
    answers = {query: collection.search(query, limit=2) for query in demonstration.QUESTIONS}
    if as_json:
        found = {query: list(map(showing.hit_as_json, hits)) for query, hits in answers.items()}
        print_json({**syncing.report_as_json(report, folder), "answers": found})
        return
    syncing.show_report(report, folder)
    for query, hits in answers.items():
        results().print(Text(f"\n{query}\n", "bold cyan"))
        showing.show_hits(hits, query, passages=1)
    say(NEXT.format(documents=documents))
