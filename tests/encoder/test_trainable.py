"""Which encoders can be trained from a layer on."""

from __future__ import annotations

import pytest

from unabridged._errors import ModelError
from unabridged.encoder.extension import extend
from unabridged.encoder.long_encoder import LongEncoder
from unabridged.encoder.trainable import split_encoder


def test_last_layers_of_a_residual_model_are_not_trained_alone(tmp_path):
    made = extend(None, tmp_path / "open", max_length=513, residual_attention=True)
    encoder = LongEncoder(made.folder, reader="chunks", dtype="float32")
    with pytest.raises(ModelError, match="train the head alone"):
        split_encoder(encoder)
