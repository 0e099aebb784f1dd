"""Labels of documents, from a file of two columns."""

from __future__ import annotations

import csv
from pathlib import Path

from unabridged.classification.errors import ClassifierError

__all__ = ["read_labels"]


def read_labels(path: Path) -> dict[str, str]:
    """Document names and their labels, in the order of the file.

    The file is CSV (comma or semicolon or tab) with two columns: the document's path relative to
    its folder, and its label. A first row "document,label" (in any case) is taken as a heading.

    Raises:
        ClassifierError: a row without two columns, an empty label, a document named twice with
            different labels, or fewer than two different labels.
    """
    text = path.read_text(encoding="utf-8-sig")
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    labels: dict[str, str] = {}
    for number, row in enumerate(csv.reader(text.splitlines(), delimiter=separator), start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and [c.lower() for c in cells] == ["document", "label"]):
            continue
        if len(cells) != 2 or not all(cells):
            raise ClassifierError(
                f"{path}, line {number}: got {separator.join(row)!r}, wanted DOCUMENT,LABEL."
            )
        name, label = cells
        if labels.setdefault(name, label) != label:
            raise ClassifierError(
                f"{path}, line {number}: {name} is {label!r} here and {labels[name]!r} above; "
                "give each document one label."
            )
    if len(set(labels.values())) < 2:
        raise ClassifierError(
            f"{path}: got {len(set(labels.values()))} different labels; wanted at least 2."
        )
    return labels
