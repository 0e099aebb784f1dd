from __future__ import annotations

import json

import pytest

from unabridged.attention.choices import ATTENTIONS, from_settings, make_attention, settings_of
from unabridged.attention.exact import Exact


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_name_gives_the_attention_that_is_saved_by_it(name):
    assert settings_of(make_attention(name))["name"] == name


@pytest.mark.parametrize("name", ATTENTIONS)
def test_settings_survive_json(name):
    attention = make_attention(name)
    assert from_settings(json.loads(json.dumps(settings_of(attention)))) == attention


def test_settings_other_than_the_defaults_survive_too():
    attention = Exact(tile=19, kernel="tiled")
    assert from_settings(json.loads(json.dumps(settings_of(attention)))) == attention


def test_an_attention_is_returned_as_it_is():
    attention = Exact(tile=19)
    assert make_attention(attention) is attention


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="got 'sparse'; wanted one of exact"):
        make_attention("sparse")


@pytest.mark.parametrize("wrong", [Exact, 7, None])
def test_what_is_no_attention_is_refused(wrong):
    with pytest.raises(TypeError, match="neither a name nor an attention"):
        make_attention(wrong)


def test_an_unknown_setting_is_refused_by_its_name():
    with pytest.raises(ValueError, match="'exact' has no setting 'colour'"):
        from_settings({"name": "exact", "colour": "red"})


def test_an_attention_without_a_name_is_not_saved():
    with pytest.raises(ValueError, match="has no name to be saved by"):
        settings_of(lambda query, key, value: value)
