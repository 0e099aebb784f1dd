"""Above the encoder and the collection: which reader finds most in somebody's own documents.

    documents ─ gather ─► sources ─ prepare ─► task ─ hold ─► rounds ─ evaluate ─► outcome ─ adopt

Queries are titles, sentences of the documents, and questions about facts planted in them.
"""

from __future__ import annotations

from unabridged.probing.bootstrap import Estimate
from unabridged.probing.contest import SCORINGS, Contestant, Record, Scoring
from unabridged.probing.gathering import Gathered, gather, of_collection, of_folder
from unabridged.probing.outcome import DECISIVE, Outcome, Standing, evaluate
from unabridged.probing.readers import TABLES, Table, Way, adopt, contestant, ways
from unabridged.probing.rounds import Round, Step, hold
from unabridged.probing.task import KINDS, Query, Source, Task, prepare
from unabridged.probing.verdict import Verdict, decide

__all__ = [
    "DECISIVE",
    "KINDS",
    "SCORINGS",
    "TABLES",
    "Contestant",
    "Estimate",
    "Gathered",
    "Outcome",
    "Query",
    "Record",
    "Round",
    "Scoring",
    "Source",
    "Standing",
    "Step",
    "Table",
    "Task",
    "Verdict",
    "Way",
    "adopt",
    "contestant",
    "decide",
    "evaluate",
    "gather",
    "hold",
    "of_collection",
    "of_folder",
    "prepare",
    "ways",
]
