"""A transformers Trainer run, recorded by its callback, reconciles."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from unabridged.adapters.trainer import RecorderCallback, of_logits
from unabridged.attribution import Replay, cross_entropy_of, margin, path_kernel


def rows(count=23, length=7):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 31, (count, length), generator=generator)
    return [
        {
            "input_ids": ids[i],
            "attention_mask": (torch.arange(length) < 4 + i % 4).long(),
            "labels": int(ids[i, 0] > 17),
            "example_id": 100 + i,
        }
        for i in range(count)
    ]


def model_and_trainer(folder, callback):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=31,
        hidden_size=22,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=13,
        max_position_embeddings=11,
        num_labels=2,
    )
    model = BertForSequenceClassification(config)
    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=5,
        max_steps=9,
        learning_rate=1e-3,
        weight_decay=0.01,
        max_grad_norm=0.5,
        remove_unused_columns=False,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        seed=3,
    )
    trainer = Trainer(model, arguments, train_dataset=rows(), callbacks=[callback])
    return model, trainer


def test_ledger_of_a_trainer_run_reconciles(tmp_path):
    model, trainer = model_and_trainer(tmp_path, RecorderCallback(tmp_path / "run", every=4))
    trainer.train()
    replay = Replay(model, tmp_path / "run", loss=of_logits(cross_entropy_of))
    replay.check(model)
    assert replay.steps == 9
    assert set(replay.ids.tolist()) <= set(range(100, 123))
    examples = rows()[:3]
    inputs = {
        name: torch.stack([row[name] for row in examples])
        for name in ("input_ids", "attention_mask")
    }
    labels = torch.tensor([row["labels"] for row in examples])
    ledger = path_kernel(replay, inputs, labels, target=of_logits(margin))
    assert ledger.unexplained < 1e-5
    left = (ledger.residual + ledger.rounding).abs().max() / ledger.change.abs().mean()
    assert float(left) < 1e-4  # float32 training: rounding is the larger part


def test_rows_without_ids_are_refused(tmp_path):
    _, trainer = model_and_trainer(tmp_path, RecorderCallback(tmp_path / "run", id_key="number"))
    with pytest.raises(ValueError, match="no 'number' among the inputs"):
        trainer.train()
