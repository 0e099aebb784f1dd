"""Small random encoders of every family, with tokenizers of their kind, made here and offline."""

from __future__ import annotations

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AlbertConfig,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    MPNetConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
    XLMRobertaConfig,
)

TEXT = (
    "The committee read the whole report, page by page. Nobody skipped the tables! "
    "Ein Absatz auf Deutsch, naïve café, 東京タワー and a family 👩‍👩‍👧 of four. "
) * 3
BERT_MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA_MARKS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]

SHAPE = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 80,
}
CONFIGS = {
    "bert": lambda n: BertConfig(vocab_size=n, **SHAPE),
    "roberta": lambda n: RobertaConfig(vocab_size=n, pad_token_id=1, **SHAPE),
    "xlm-roberta": lambda n: XLMRobertaConfig(vocab_size=n, pad_token_id=1, **SHAPE),
    "distilbert": lambda n: DistilBertConfig(
        vocab_size=n, dim=24, n_layers=3, n_heads=2, hidden_dim=40, max_position_embeddings=80
    ),
    "electra": lambda n: ElectraConfig(vocab_size=n, embedding_size=16, **SHAPE),
    "albert": lambda n: AlbertConfig(vocab_size=n, embedding_size=16, **SHAPE),
    "mpnet": lambda n: MPNetConfig(vocab_size=n, pad_token_id=1, **SHAPE),
}


def wordpiece() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=BERT_MARKS)
    tokenizer.train_from_iterator([TEXT.replace("👩‍👩‍👧", "")], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=ROBERTA_MARKS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return _roberta_marks(tokenizer)


def metaspace() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=ROBERTA_MARKS, unk_token="<unk>"
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return _roberta_marks(tokenizer)


def _roberta_marks(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
    )


TOKENIZERS = {
    "wordpiece": wordpiece,
    "byte_level": byte_level,
    "metaspace": metaspace,
}
TOKENIZER_OF = {"roberta": "byte_level", "xlm-roberta": "metaspace", "mpnet": "byte_level"}
