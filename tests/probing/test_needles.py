"""Needles differ, are where they should be, and cost the document nothing."""

from __future__ import annotations

import numpy as np
import pytest

from unabridged.probing.needles import MOST_NEEDLES, make_needles, plant

TEXT = "\n".join(f"Line {n} is long enough. It has two sentences." for n in range(97))


def test_all_needles_differ_and_no_two_questions_are_alike():
    needles = make_needles(MOST_NEEDLES, np.random.default_rng(3))
    assert len({needle.fact for needle in needles}) == MOST_NEEDLES
    assert len({needle.question for needle in needles}) == MOST_NEEDLES


def test_a_question_names_who_and_what_but_not_where():
    for needle in make_needles(MOST_NEEDLES, np.random.default_rng(5)):
        who = needle.question.removeprefix("Where does the ").partition(" keep ")[0]
        assert needle.fact.startswith(f"The {who} keeps ")
        answer = needle.fact.removesuffix(".").rpartition(" ")[2]
        assert answer not in needle.question


def test_neighbours_share_neither_person_nor_place():
    needles = make_needles(24, np.random.default_rng(7))
    people, places = zip(
        *(n.fact.partition(" keeps ")[0].split(" of ") for n in needles), strict=True
    )
    assert len(set(people)) == len(set(places)) == 24


def test_equal_seeds_give_equal_needles():
    one, other = (make_needles(11, np.random.default_rng(2)) for _ in range(2))
    assert one == other
    assert one != make_needles(11, np.random.default_rng(3))


def test_more_needles_than_there_are_is_refused():
    with pytest.raises(ValueError, match="there are 576 needles"):
        make_needles(MOST_NEEDLES + 1, np.random.default_rng(0))


@pytest.mark.parametrize("depth", [0.0, 0.13, 0.5, 0.77, 1.0])
def test_a_planted_fact_stands_whole_near_its_depth_and_nothing_is_lost(depth):
    planted = plant(TEXT, "Here it is.", depth)
    assert abs(planted.index("Here it is.") / len(planted) - depth) < 0.02
    assert planted.replace("Here it is.", "").split() == TEXT.split()


def test_a_fact_stands_between_sentences():
    for depth in np.linspace(0, 1, 31):
        before = plant(TEXT, "Here it is.", float(depth)).partition("Here it is.")[0].rstrip()
        assert not before or before.endswith(".")


@pytest.mark.parametrize("text", ["word " * 2000, "字" * 5000, "x", ""])
def test_a_text_without_sentences_takes_a_fact_too(text):
    planted = plant(text, "Here.", 0.5)
    assert "Here." in planted
    assert "".join(planted.replace("Here.", "").split()) == "".join(text.split())
    if len(text) > 1:
        assert abs(planted.index("Here.") / len(planted) - 0.5) < 0.01
