"""Needles: made-up facts that stand in one document and in no other, and questions that ask them.

A needle is put between two sentences, so that nothing of the document is lost. Facts are in
English; in a folder of another language they measure how a foreign sentence is found, which is
why they are counted apart from sentences of the documents themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice, product

import numpy as np

__all__ = ["MOST_NEEDLES", "Needle", "make_needles", "plant"]

_KEEPERS = {
    "beekeeper": ("the spare smoker", "under the third hive"),
    "lighthouse warden": ("the logbook of wrecks", "behind the lamp"),
    "violin maker": ("the oldest jar of varnish", "in the flour bin"),
    "baker": ("the sourdough from the war", "in a blue crock"),
    "mountain guide": ("the frayed rope", "above the tavern door"),
    "pharmacist": ("the unlabelled vial", "inside a hollow globe"),
    "organist": ("the missing pipe", "wrapped in a tablecloth"),
    "ferryman": ("the brass bell", "beneath a coil of hemp"),
    "falconer": ("the silver hood", "in a walnut drawer"),
    "glassblower": ("the cracked vase", "on the highest shelf"),
    "stationmaster": ("the lost umbrella", "beside the signal levers"),
    "librarian": ("the forbidden atlas", "under the poetry"),
    "cheesemaker": ("the smallest wheel", "behind the copper kettle"),
    "watchmaker": ("the stopped chronometer", "in a tin of buttons"),
    "gardener": ("the black tulip bulbs", "in the ice cellar"),
    "puppeteer": ("the marionette of the king", "in a hatbox"),
    "astronomer": ("the spare mirror", "between two mattresses"),
    "miller": ("the cat's silver collar", "on a rusty nail"),
    "tailor": ("the unfinished uniform", "inside the piano"),
    "fisherman": ("the glass float", "in the church attic"),
    "blacksmith": ("the bent sword", "under the quenching trough"),
    "tea merchant": ("the sealed chest of first pickings", "by the stove"),
    "cartographer": ("the map of the marshes", "inside a drum"),
    "perfumer": ("the vial of ambergris", "behind the cuckoo clock"),
}
_PLACES = (
    "Velmora", "Tarnwick", "Osterbruck", "Calindra", "Pellavia", "Brundholm", "Sorrowfield",
    "Kestrelmont", "Aldenquay", "Miravel", "Hollowmere", "Jostengard", "Quillhaven", "Ravensby",
    "Umberlea", "Dravnik", "Fennimore", "Lochandra", "Westmarrow", "Ipsweald", "Norrgate",
    "Zandersee", "Glimmerford", "Yarrowdale",
)  # fmt: skip
# The first that stands near enough to where a needle is wanted.
_BOUNDARIES = (
    re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\n+"),
    re.compile(r"\s+"),
    re.compile(""),
)
_NEAR = 200  # characters

MOST_NEEDLES = len(_KEEPERS) * len(_PLACES)
"""So many needles differ from each other; one folder gets at most these."""


@dataclass(frozen=True, slots=True)
class Needle:
    """A fact, and the question that it answers.

    Attributes:
        fact: one sentence.
        question: names the same person and place, and not the answer.
    """

    fact: str
    question: str


def make_needles(count: int, rng: np.random.Generator) -> list[Needle]:
    """So many different needles; people and places both recur as late as they can.

    Args:
        count: at most `MOST_NEEDLES`.
        rng: says which.

    Raises:
        ValueError: more than there are.

    >>> needle = make_needles(1, np.random.default_rng(1))[0]
    >>> needle.question
    'Where does the lighthouse warden of Hollowmere keep the logbook of wrecks?'
    >>> needle.fact
    'The lighthouse warden of Hollowmere keeps the logbook of wrecks behind the lamp.'
    """
    if count > MOST_NEEDLES:
        raise ValueError(f"make_needles: count is {count}, and there are {MOST_NEEDLES} needles.")
    keepers, places = rng.permutation(list(_KEEPERS)), rng.permutation(_PLACES)
    rounds = product(range(len(places)), range(len(keepers)))
    # A Latin square: every round gives every person another place.
    pairs = ((keepers[k], places[(k + r) % len(places)]) for r, k in rounds)
    return [_needle(*pair) for pair in islice(pairs, count)]


def plant(text: str, fact: str, depth: float) -> str:
    """Put a sentence between two sentences or lines of a text, or between words where none is near.

    Args:
        text: it is left as it is around the sentence.
        fact: the sentence.
        depth: from 0, the beginning, to 1, the end.

    >>> plant("One. Two. Three.", "Here.", 0.6)
    'One. Two. Here. Three.'
    """
    place = _place(text, depth)
    before, after = text[:place], text[place:]
    if not after:
        return f"{before} {fact}" if before else fact
    return f"{before}{fact}\n{after}" if before.endswith("\n") else f"{before}{fact} {after}"


def _place(text: str, depth: float) -> int:
    wanted = round(depth * len(text))
    for boundary in _BOUNDARIES:
        ends = [0, len(text), *(match.end() for match in boundary.finditer(text))]
        place = min(ends, key=lambda end: abs(end - wanted))
        if abs(place - wanted) <= _NEAR:
            break
    return place


def _needle(keeper: str, place: str) -> Needle:
    who, (thing, where) = f"{keeper} of {place}", _KEEPERS[keeper]
    return Needle(f"The {who} keeps {thing} {where}.", f"Where does the {who} keep {thing}?")
