import numpy as np
import pytest

import reference_collection as reference
from reference_collection import WordEmbedder, prose
from unabridged._errors import CollectionError
from unabridged.collection import WEIGHTS, Collection
from unabridged.collection.documents import Document

TEXTS = [
    ("fruit/lemons", "Lemons are sour. Oranges are sweet. The orchard runs down to the harbour."),
    ("fruit/apples", "Apples keep all winter in a dry cellar, wrapped in paper."),
    ("sea/ships", "Ships sail at dawn. The harbour is empty by noon."),
    ("sea/storms", "A storm broke the harbour wall, and ships were lost with all their lemons."),
]


@pytest.fixture
def filled(collection):
    collection.sync(TEXTS)
    return collection


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Long enough to be whitened."""
    path = tmp_path_factory.mktemp("large") / "collection"
    with Collection.open(path, WordEmbedder()) as collection:
        report = collection.sync([(f"d{i:02}", prose(i, 30 + 7 * i)) for i in range(23)])
        assert report.whitening.decision == "whitened"
        yield collection


def found(hits):
    return [hit.document for hit in hits]


def test_lexical_search_finds_words_by_their_stems(filled):
    assert found(filled.search("sailing", mode="lexical")) == ["sea/ships"]


def test_lexical_search_leaves_stop_words_out(filled):
    assert filled.search("the are at by", mode="lexical") == []


def test_lexical_scores_are_bm25(tmp_path):
    texts = [(f"d{i}", prose(i, 40 + 11 * i).replace("\n", " ")) for i in range(7)]
    query = " ".join(prose(3, 70).split()[5:9])
    with Collection.open(tmp_path / "plain", WordEmbedder(), language="English") as collection:
        collection.sync(texts)
        collection.compact()
        scores = {hit.document: hit.score for hit in collection.search(query, mode="lexical")}
    expected = reference.bm25_scores([text for _, text in texts], query)
    expected = {id: score for (id, _), score in zip(texts, expected, strict=True) if score > 0}
    assert scores.keys() == expected.keys()
    ratios = [scores[id] / expected[id] for id in scores]
    # Lengths are quantised in the index, as in Lucene.
    assert max(ratios) / min(ratios) < 1.1


def test_dense_scores_are_the_mean_of_the_best_three_cosines(filled, embedder):
    query = "ships lost in a storm"
    [vector] = embedder.encode_query([query])
    for hit in filled.search(query, mode="dense"):
        passages = filled.passages(hit.document)
        cosines = [reference.cosine(vector, passage.vector) for passage in passages]
        assert hit.score == pytest.approx(reference.mean_of_best(cosines), abs=1e-5)
        assert hit.parts == {"dense": hit.score}


def test_hybrid_score_is_the_weighted_sum_of_zscores(large):
    query = prose(5, 60)[20:80]
    parts = {
        mode: {hit.document: hit.score for hit in large.search(query, mode=mode, limit=99)}
        for mode in ("dense", "lexical")
    }
    ids = sorted(parts["dense"])
    dense = reference.zscores([parts["dense"][id] for id in ids])
    bm25 = reference.zscores([parts["lexical"].get(id, 0.0) for id in ids])
    hits = large.search(query, limit=99)
    assert len(hits) == 23
    close = {hit.document: hit.parts["bm25_passages"] for hit in hits}
    close = reference.zscores([close[id] for id in ids])
    for hit in hits:
        at = ids.index(hit.document)
        expected = WEIGHTS["dense"] * dense[at] + WEIGHTS["bm25"] * bm25[at]
        expected += WEIGHTS["bm25_passages"] * close[at]
        assert hit.score == pytest.approx(expected, abs=1e-4)
        assert hit.parts["dense"] == pytest.approx(parts["dense"][hit.document], abs=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_bm25_of_passages_is_the_mean_of_the_best_three(filled):
    for hit in filled.search("ships in the harbour at dawn"):
        number = filled.get(hit.document).summary.passages
        shown = [passage.parts["bm25"] for passage in hit.passages]
        assert number == len(shown) <= 3
        assert hit.parts["bm25_passages"] == pytest.approx(reference.mean_of_best(shown))


def test_hits_carry_passages_that_slice_the_document(large):
    for hit in large.search(prose(9, 40), limit=5):
        text = large.get(hit.document).text
        assert 1 <= len(hit.passages) <= 3
        for passage in hit.passages:
            assert text[passage.chars[0] : passage.chars[1]] == passage.text
            assert passage.line == text[: passage.chars[0]].count("\n") + 1
        scores = [passage.score for passage in hit.passages]
        assert scores == sorted(scores, reverse=True)


def test_a_sentence_finds_its_own_passage_first(large):
    for number in (4, 11, 19):
        sentence = prose(number, 30 + 7 * number).split("\n")[-2]
        for mode in ("dense", "lexical", "hybrid"):
            best = large.search(sentence, mode=mode, limit=1)[0]
            assert best.document == f"d{number:02}"
        assert sentence.split()[2] in best.passages[0].text


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_streamed_and_cached_vectors_give_the_same_hits(large, memory):
    with Collection.open(large.path, WordEmbedder(), memory=memory) as other:
        expected = large.search(prose(8, 20), mode="dense", limit=23)
        hits = other.search(prose(8, 20), mode="dense", limit=23)
    assert found(hits) == found(expected)
    np.testing.assert_allclose(
        [hit.score for hit in hits], [hit.score for hit in expected], rtol=1e-5
    )


def test_path_filter_is_a_glob_over_ids(filled):
    assert set(found(filled.search("harbour", path="sea/*"))) == {"sea/ships", "sea/storms"}
    assert found(filled.search("harbour", path="*/lemons")) == ["fruit/lemons"]
    assert filled.search("harbour", path="land/*") == []


def test_metadata_filter_wants_equal_values(collection):
    documents = [
        Document(f"{by}{year}", "The harbour.", metadata={"by": by, "year": year})
        for by in ("ann", "bob")
        for year in ("1999", "2001")
    ]
    collection.sync(documents)
    assert set(found(collection.search("harbour", metadata={"by": "ann"}))) == {
        "ann1999",
        "ann2001",
    }
    both = {"by": "bob", "year": "2001"}
    assert found(collection.search("harbour", metadata=both)) == ["bob2001"]
    assert collection.search("harbour", metadata={"place": "here"}) == []


def test_filter_does_not_change_scores(filled):
    free = {hit.document: hit.score for hit in filled.search("ships in the harbour")}
    for hit in filled.search("ships in the harbour", path="sea/*"):
        assert hit.score == pytest.approx(free[hit.document])


def test_limit_is_kept(filled):
    assert len(filled.search("harbour", limit=2)) == 2
    with pytest.raises(ValueError, match="limit is 0 and must be at least 1"):
        filled.search("harbour", limit=0)


@pytest.mark.parametrize("query", ["", "  \n\t "])
def test_empty_query_is_refused(filled, query):
    with pytest.raises(ValueError, match="the query is empty"):
        filled.search(query)


def test_unknown_mode_is_refused(filled):
    with pytest.raises(ValueError, match="mode is 'magic'; choose one of hybrid, dense, lexical"):
        filled.search("harbour", mode="magic")


@pytest.mark.parametrize(
    "query",
    [
        '"harbour',
        "harbour AND (",
        "title:harbour^2 OR -x",
        "harbour'; DROP TABLE passages; --",
        "+harbour *wild?",
        "harbour \\ / [ ] { } ~ ! ",
        "harbour \x00 \ufffd 🍋",
    ],
)
@pytest.mark.parametrize("mode", ["hybrid", "lexical"])
def test_signs_in_a_query_are_no_operators(filled, query, mode):
    assert {"sea/ships", "sea/storms"} <= set(found(filled.search(query, mode=mode)))


def test_query_of_signs_only_finds_nothing_by_words(filled):
    assert filled.search('"()', mode="lexical") == []


@pytest.mark.parametrize("query", [prose(1, 17_000), "harbour" * 15_000, "港" * 100_000])
def test_query_of_a_hundred_thousand_characters_is_answered(filled, query):
    assert len(query) >= 100_000
    assert len(filled.search(query)) == 4


def test_words_of_languages_without_spaces_are_found(collection):
    collection.sync([("tokyo", "東京都に住んでいます。"), ("kyoto", "京都は古い町です。")])
    assert found(collection.search("東京", mode="lexical")) == ["tokyo"]


def test_accents_do_not_matter_to_words(collection):
    collection.sync([("cafe", "Le café est fermé.")])
    assert found(collection.search("cafe", mode="lexical")) == ["cafe"]


def test_empty_collection_has_no_hits(collection):
    assert collection.search("anything") == []


def test_new_documents_are_found_at_once(filled):
    filled.search("harbour")
    filled.sync([("new", "Zeppelins over the harbour.")], vanished="keep")
    assert found(filled.search("zeppelins", limit=1)) == ["new"]
    filled.remove("new")
    assert "new" not in found(filled.search("zeppelins"))


def test_without_an_encoder_words_are_searched(filled):
    with Collection.open(filled.path) as reader:
        assert found(reader.search("sail")) == ["sea/ships"]
        assert reader.get("sea/ships").text == TEXTS[2][1]
        with pytest.raises(CollectionError, match="opened without an encoder"):
            reader.search("sail", mode="dense")
        with pytest.raises(CollectionError, match="opened without an encoder"):
            reader.sync([])


def test_only_searches_that_need_a_vector_encode(filled, embedder):
    asked = len(embedder.queries_read)
    filled.search("harbour", mode="lexical")
    assert len(embedder.queries_read) == asked
    filled.search("harbour")
    assert embedder.queries_read[asked:] == ["harbour"]
