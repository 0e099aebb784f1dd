"""Real text for training: documentation of the standard library and of installed packages.

Module pages by pydoc, docstrings of packages, and their .md, .rst and .txt files. What is in it is
decided by what is installed, so its size is printed with every result.
"""

from __future__ import annotations

import ast
import hashlib
import sysconfig
import tempfile
import warnings
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from unabridged.cli.standard_library import write_all
from unabridged.encoder.tokens import load_tokenizer
from unabridged.training.corpus import Corpus

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SHORTEST, LONGEST = 400, 200_000  # characters of a document


def docstrings(path):
    """All docstrings of a module, one after another."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError, RecursionError):
        return ""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return "\n\n".join(text for text in found if text)


def documents(limit):
    """Texts in a fixed order, no two equal, up to so many characters in all."""
    seen, total = set(), 0
    with tempfile.TemporaryDirectory() as place:
        pages = sorted(write_all(Path(place)).glob("*.txt"))
        texts = [page.read_text(encoding="utf-8") for page in pages]
    site = Path(sysconfig.get_paths()["purelib"])
    paths = [p for p in site.rglob("*") if p.suffix in (".py", ".md", ".rst", ".txt")]
    paths.sort(key=lambda p: hashlib.sha256(str(p.relative_to(site)).encode()).hexdigest())

    def later():
        for path in paths:
            if path.suffix == ".py":
                yield docstrings(path)
            elif "test" not in path.parts and "licens" not in path.name.lower():
                yield path.read_text(encoding="utf-8", errors="replace")

    for source in (texts, later()):
        for text in source:
            text = text[:LONGEST]
            key = hashlib.sha256(text.encode()).digest()
            if len(text) < SHORTEST or key in seen:
                continue
            seen.add(key)
            total += len(text)
            yield text
            if total > limit:
                return


def train_tokenizer(texts, vocabulary, folder):
    """A WordPiece tokenizer in lower case, saved as transformers does."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=MARKS, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)


def prepare(folder, *, vocabulary, characters):
    """Corpus and tokenizer in a folder, made once."""
    folder = Path(folder)
    if not (folder / "tokens" / "corpus.json").exists():
        texts = list(documents(characters))
        train_tokenizer(texts[::8], vocabulary, folder / "tokenizer")
        Corpus.write(
            folder / "tokens", texts, load_tokenizer(folder / "tokenizer", lowercase=False)
        )
    return Corpus.open(folder / "tokens"), folder / "tokenizer"
