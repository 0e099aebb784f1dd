"""The README.md of an extended checkpoint: what was done to it, before what its authors said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["model_card"]

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_ROWS = {
    "hierarchical": "Position m beyond the old table is written with two digits in base B, "
    "m = 1 + iB + j, and gets p[1+j] + α/(1-α) (p[1+i] - p[1]) "
    "(Su 2020, kexue.fm/archives/7947, anchored at row 1 so that row 0 stays with [CLS]).",
    "recurrent": "Position m beyond the old table gets row 1 + (m-1) mod B.",
    "grouped": "Neighbouring positions share a row; row 0 stays with [CLS].",
    "interpolated": "B rows are stretched linearly over all positions; row 0 stays with [CLS].",
    "interpolated-hierarchical": "B rows are stretched linearly to at most four times as many; "
    "beyond, positions are written with two digits as in the hierarchical scheme.",
    "sinusoidal": "The table is sinusoidal and was continued by its own formula.",
}


def model_card(made: Mapping[str, Any], *, original: str, stock: bool) -> str:
    """A card that keeps the front matter and the text of the original one.

    Args:
        made: the fields of an `Extension`.
        original: README.md of the source, or "".
        stock: whether sentence-transformers loads the folder with its own pooling.
    """
    front = _FRONT_MATTER.match(original)
    head, rest = (front[0] + "\n", original[front.end() :]) if front else ("", original)
    facts = {
        "made from": f"{made['source']}, SHA-256 of weights and tokenizer {made['source_digest']}",
        "positions, special tokens included": f"{made['positions_before']:,} → "
        f"{made['positions']:,}",
        "scheme": made["scheme"],
        "α": made["alpha"],
        "base B": made["base"],
        "residual attention": made["gates"],
        "largest change of a token state on an input that fills the old table, as measured": (
            f"{made['short_difference']:.2g}"
        ),
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in facts.items() if value is not None)
    below = f"\n## Card of the original model\n\n{rest.strip()}\n" if rest.strip() else ""
    return f"""{head}# {made["source"]}, extended to {made["positions"]:,} positions

Made by `unabridged extend`. The position table was lengthened and config and tokenizer were told;
**nothing was trained**, and all other weights are those of the original.

{_ROWS[made["scheme"]]}

| | |
| --- | --- |
{table}

The model loads like any other, without remote code:

```python
{_LOADING[stock]}
```

Reading a long text in one pass with a table that was not trained at that length is not the same as
understanding it as well as a short one. For retrieval, vectors of passages are usually better than
the one vector of such a pass: measure on your own documents, or train the model further.
{below}"""


_LOADING = {
    True: """from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")""",
    False: """from transformers import AutoModel, AutoTokenizer

model = AutoModel.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")""",
}
