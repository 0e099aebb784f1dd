"""Attentions are known to transformers as soon as both packages are imported, and cost nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from unabridged import _late_registration
from unabridged.attention.choices import ATTENTIONS


def test_the_names_of_the_watcher_are_those_of_the_attentions():
    assert _late_registration.NAMES == ATTENTIONS


def run(statements):
    """Statements in an interpreter that has imported nothing yet."""
    code = "\n".join(statements)
    options = {"capture_output": True, "text": True}
    return subprocess.run([sys.executable, "-c", code], check=False, **options)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["ours_first", "transformers_first"])
def test_both_orders_of_import_register(order, model_folders):
    imports = ["import unabridged", "from transformers import AutoModel, BertModel"]
    done = run(
        [
            *(imports[i] for i in order),
            f"folder = {str(model_folders['bert'])!r}",
            "model = AutoModel.from_pretrained(folder, attn_implementation='exact')",
            "print(model.config.unabridged_attention)",
        ]
    )
    assert done.returncode == 0, done.stderr
    assert "'name': 'exact'" in done.stdout


def test_watching_loads_no_library():
    done = run(["import unabridged", "import sys", "print(*sys.modules)"])
    assert done.returncode == 0, done.stderr
    assert not {"torch", "transformers", "numpy"} & set(done.stdout.split())


def test_watching_twice_registers_once():
    done = run(
        [
            "import sys, unabridged._late_registration as late",
            "late.watch(); late.watch()",
            "print(sum(type(f).__module__ == late.__name__ for f in sys.meta_path))",
            "import transformers.modeling_utils",
            "print(sum(type(f).__module__ == late.__name__ for f in sys.meta_path))",
        ]
    )
    assert done.stdout.split() == ["1", "0"], done.stderr
