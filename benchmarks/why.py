"""Does `why` name a planted copy, and a planted wrong label, first? On documents chosen at random.

Two sets: 5,452 TREC questions with six classes, and long documents, stretches of QMSum transcripts
labelled by the kind of meeting. From each 50 training documents are drawn. Asked about is the very
text of such a document ("copy"), or the text after an edit (questions lose a word; of long
documents a tenth, or three tenths, of the passages are replaced by passages of another document).
The training document was labelled rightly, or with a wrong label drawn at random. The table says
how often it stands first by each order alone, and as `why` shows them: the most alike first, then
by contribution. A training text identical to the planted one counts as the planted one.

Data: questions/ and qmsum/ in DATA; see `--help`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

import machine
from unabridged._reading import Coverage, Reading
from unabridged.attribution import adjoint
from unabridged.classification import explain, fit

HOME = Path.home() / ".cache" / "unabridged-bench"
PASSAGES = 12
ORDERS = ("contribution", "removal", "alike", "why")


def reading_of(vectors):
    """As much of a reading as an explanation needs."""
    vectors = np.atleast_2d(np.asarray(vectors, np.float32))
    spans = np.stack([np.arange(len(vectors)), np.arange(len(vectors)) + 1], 1)
    ids = np.zeros(len(vectors), np.int32)
    return Reading(ids, spans, vectors, spans, spans, Coverage(len(ids), len(ids)))


def encoded(name, make):
    """Arrays that cost minutes to compute, kept outside the repository."""
    path = HOME / f"{name}.npz"
    if not path.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        np.savez(path, **make())
    return np.load(path)


def questions(root):
    text = (root / "questions" / "trec.train.txt").read_text(encoding="utf-8", errors="replace")
    return [line.split(" ", 1) for line in text.splitlines()]


def trec(root, generator):
    """Texts as lists of passage vectors, labels, and edited versions of every text."""
    from unabridged.encoder import LongEncoder

    lines = questions(root)

    def make():
        words = [question.split() for _, question in lines]
        gaps = [int(generator.integers(len(w))) for w in words]
        cut = [" ".join(w[:g] + w[g + 1 :]) for w, g in zip(words, gaps, strict=True)]
        encoder = LongEncoder()
        return {"whole": encoder.encode([q for _, q in lines]), "cut": encoder.encode(cut)}

    stored = encoded("why-trec", make)
    edits = {"copy": list(stored["whole"]), "a word less": list(stored["cut"])}
    return list(stored["whole"]), [label for label, _ in lines], edits


def meetings(root, generator):
    """Stretches of transcripts, labelled by the kind of meeting."""
    from unabridged.encoder import LongEncoder

    paths = sorted((root / "qmsum" / "documents").glob("*.txt"))

    def make():
        encoder = LongEncoder()
        texts = (path.read_text(encoding="utf-8") for path in paths)
        return {p.stem: r.vectors for p, r in zip(paths, encoder.read_many(texts), strict=True)}

    stored = encoded("why-qmsum", make)
    kinds = {"B": "academic", "E": "product", "I": "product", "T": "product"}
    texts, labels = [], []
    for name in stored.files:
        for start in range(0, len(stored[name]) - PASSAGES + 1, PASSAGES):
            texts.append(stored[name][start : start + PASSAGES])
            labels.append(kinds.get(name[0], "committee"))
    edits = {"copy": texts}
    for share in (0.1, 0.3):
        edits[f"{share:.0%} replaced"] = [
            replaced(texts, i, share, generator) for i in range(len(texts))
        ]
    return texts, labels, edits


def replaced(texts, index, share, generator):
    other = texts[int(generator.integers(len(texts)))]
    rows = generator.choice(PASSAGES, max(1, round(share * PASSAGES)), replace=False)
    edited = texts[index].copy()
    edited[rows] = other[rows]
    return edited


def flipped(labels, chosen, generator):
    """The labels with wrong ones, drawn among the others, at the chosen places."""
    classes, wrong = sorted(set(labels)), list(labels)
    for place in chosen:
        wrong[place] = str(generator.choice([c for c in classes if c != labels[place]]))
    return wrong


def measure(name, texts, labels, edits, plant, arguments):
    generator = np.random.default_rng([arguments.seed, plant == "wrong label"])
    chosen = generator.choice(len(texts), arguments.count, replace=False)
    given = flipped(labels, chosen, generator) if plant == "wrong label" else labels
    means = np.stack([np.atleast_2d(text).mean(0) for text in texts])
    folder = Path(tempfile.mkdtemp()) / "classifier"
    made, accuracy = fit(
        means, dict(zip(map(str, range(len(texts))), given, strict=True)), {}, folder
    )
    rows = []
    for edit, asked in edits.items():
        whys = [explain(made, reading_of(asked[i]), count=len(texts)) for i in chosen]
        moved = removals(made, [asked[i] for i in chosen], whys)
        counts, twins = dict.fromkeys(ORDERS, 0), 0
        for place, why, effects in zip(chosen, whys, moved, strict=True):
            same = {str(i) for i in np.flatnonzero((means == means[place]).all(1))}
            for order, document in first_by(why, effects).items():
                counts[order] += document in same
            twins += why.taught[0].twin and why.taught[0].document in same
        shares = {order: f"{hits / len(chosen):.0%}" for order, hits in counts.items()}
        marked = {"marked as twin": f"{twins / len(chosen):.0%}"}
        worst = {"largest gap": f"{max(map(gap, whys)):.0e}"}
        about = {"set": name, "planted": plant, "asked": edit}
        rows.append({**about, **shares, **marked, **worst})
        print(rows[-1], flush=True)
    return rows, accuracy


def removals(made, asked, whys):
    """(T, n) what leaving out each training document would do to each lead, all at once."""
    whole = torch.stack([made.standardised(np.atleast_2d(text)).mean(0) for text in asked])
    pairs = [[made.classes.index(n) for n in (w.prediction.label, w.against)] for w in whys]

    def lead(outputs, chosen):
        both = outputs.gather(1, chosen)
        return both[:, 0] - both[:, 1]

    return adjoint(made.replay(), whole, torch.tensor(pairs), target=lead).values


def first_by(why, effects):
    """Who stands first by each single order, and as `why` shows them."""
    return {
        "contribution": max(why.taught, key=lambda one: abs(one.amount)).document,
        "removal": str(int(effects.abs().argmax())),
        "alike": max(why.taught, key=lambda one: one.alike).document,
        "why": why.taught[0].document,
    }


def gap(why):
    """How far both accounts are from the lead that the head gives, of its size."""
    lines = sum(line.amount for line in why.lines)
    passages = why.bias + sum(passage.amount for passage in why.passages)
    return max(abs(lines - why.lead), abs(passages - why.lead), abs(why.residual)) / max(
        1, abs(why.lead)
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", help="folder with questions/ and qmsum/; default UNABRIDGED_DATA")
    parser.add_argument("--set", choices=["trec", "meetings"], action="append")
    parser.add_argument("--planted", choices=["right label", "wrong label"], action="append")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    root = arguments.data or os.environ.get("UNABRIDGED_DATA")
    if root is None or not (Path(root) / "questions").is_dir():
        raise SystemExit("skipped: no data; give --data FOLDER or set UNABRIDGED_DATA")
    makers = {"trec": trec, "meetings": meetings}
    rows, sizes = [], {}
    for name in arguments.set or list(makers):
        texts, labels, edits = makers[name](Path(root), np.random.default_rng(arguments.seed))
        for plant in arguments.planted or ("right label", "wrong label"):
            found, accuracy = measure(name, texts, labels, edits, plant, arguments)
            rows += found
            sizes[f"{name}, {plant}"] = f"{len(texts)} documents, training accuracy {accuracy:.3f}"
    name = "_".join(["why", *(arguments.set or []), *(p[:5] for p in arguments.planted or [])])
    machine.report(name, rows, {"seed": arguments.seed, "planted": arguments.count, **sizes})


if __name__ == "__main__":
    main()
