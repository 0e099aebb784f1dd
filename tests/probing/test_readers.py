"""The ways to read that are offered, and what becomes of the one that is chosen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModel

from tiny_models import CONFIGS, wordpiece
from unabridged.collection import Settings, reader_of
from unabridged.encoder import Chunks, Full, LongEncoder, Windows
from unabridged.probing.readers import TABLES, Table, Way, adopt, contestant, ways

TEXT = "The committee read the whole report, page by page. " * 40


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT of 80 positions."""
    folder = tmp_path_factory.mktemp("models") / "bert"
    torch.manual_seed(0)
    tokenizer = wordpiece()
    AutoModel.from_config(CONFIGS["bert"](len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_every_reader_and_every_table_takes_part(bert):
    offered = ways(LongEncoder(bert, reader="full"), positions=512)
    names = [way.name for way in offered]
    assert names[:3] == ["truncate", "chunks", "windows"]
    assert names[3:] == [f"full, {table}" for table in TABLES]
    assert len(set(names)) == len(names)


def test_a_model_that_is_long_enough_reads_with_its_own_table(bert):
    offered = ways(LongEncoder(bert, reader="full"), positions=64)
    assert [way.name for way in offered][3:] == ["full", "full in one vector"]


def test_truncation_is_for_comparison_only(bert):
    roles = {
        w.name: contestant(w, bert, 512).role
        for w in ways(LongEncoder(bert, reader="full"), positions=512)
    }
    assert [name for name, role in roles.items() if role == "comparison"] == ["truncate"]


@pytest.mark.parametrize("way", [Way(Chunks(70)), Way(Windows(70, 31)), Way(Full(70)), Way(Full())])
def test_the_settings_of_a_way_are_those_in_the_fingerprint_of_its_encoder(bert, way):
    assert way.settings == reader_of(LongEncoder(bert, reader=way.reader).fingerprint)


def test_a_longer_model_is_there_while_it_is_open_and_gone_afterwards(bert):
    with contestant(Way(Full(70), Table("recurrent")), bert, 600).open() as encoder:
        folder = encoder.checkpoint.folder
        assert folder.exists()
        assert encoder.read(TEXT).coverage.share == 1
    assert not folder.exists()


def test_the_adopted_model_reads_as_the_contestant_did(bert, tmp_path):
    way = Way(Full(70), Table("hierarchical", 0.2))
    settings = adopt(way, bert, 600, tmp_path / "c", reason="it is better")
    assert Settings.load(tmp_path / "c") == settings
    assert (settings.base, settings.reason) == (str(bert), "it is better")
    kept = LongEncoder(settings.place_of_model(tmp_path / "c"), reader=way.reader)
    assert kept.checkpoint.digest == settings.digest
    assert settings.fits(kept.fingerprint)
    with contestant(way, bert, 600).open() as encoder:
        np.testing.assert_array_equal(kept.read(TEXT).vectors, encoder.read(TEXT).vectors)


def test_adopting_another_keeps_the_one_that_may_be_in_use(bert, tmp_path):
    def adopted(alpha):
        way = Way(Full(70), Table("hierarchical", alpha))
        return adopt(way, bert, 600, tmp_path, reason="")

    one, other, again = adopted(0.2), adopted(0.4), adopted(0.2)
    assert one == again
    assert one.model != other.model
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"settings.json", one.model[2:], other.model[2:]}
    assert not one.fits(LongEncoder(other.place_of_model(tmp_path), reader=Full(70)).fingerprint)


def test_a_way_with_the_own_table_needs_no_model_of_its_own(bert, tmp_path):
    settings = adopt(Way(Chunks(70)), None, 600, tmp_path, reason="")
    assert (settings.model, settings.base) == (None, None)
    assert settings.reader == {"reader": "chunks", "reader.passage": "70", "reader.overlap": "0"}
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]
