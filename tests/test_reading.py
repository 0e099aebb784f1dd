import numpy as np

from unabridged import Reading
from unabridged._reading import Coverage


def make_reading() -> Reading:
    return Reading(
        token_ids=np.arange(5, dtype=np.int32),
        token_chars=np.array([[0, 3], [4, 7], [8, 9], [10, 12], [13, 14]]),
        vectors=np.array([[1.0, 0.0], [0.0, 3.0]], dtype=np.float32),
        passage_tokens=np.array([[0, 3], [3, 5]]),
        passage_chars=np.array([[0, 9], [10, 14]]),
        coverage=Coverage(tokens_read=5, tokens_total=5),
    )


def test_a_reading_is_a_sequence_of_its_passages():
    reading = make_reading()
    assert [passage.chars for passage in reading.passages] == [(0, 9), (10, 14)]
    assert [passage.tokens for passage in reading.passages] == [(0, 3), (3, 5)]
    np.testing.assert_array_equal(reading[1].vector, [0.0, 3.0])


def test_the_vector_of_a_document_is_the_mean_of_its_passages():
    np.testing.assert_allclose(make_reading().vector, [0.5, 1.5])


def test_nothing_is_missing_of_an_empty_document():
    assert Coverage(tokens_read=0, tokens_total=0).share == 1.0
