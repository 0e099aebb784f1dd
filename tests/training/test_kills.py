"""`adapt` in a process of its own, killed wherever it happens to be."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = """
import functools, sys
from unabridged.training import adaptation
from unabridged.training.adaptation import Recipe, adapt
adaptation.Settings = functools.partial(adaptation.Settings, save_seconds=0.1)
recipe = Recipe(max_length=211, minutes=None, steps=120, rate=1e-3, window=20, precision="float32")
adapt(*sys.argv[1:4], recipe=recipe, on_step=lambda step: print(step.number, flush=True))
"""


def start(*places):
    command = [sys.executable, "-c", SCRIPT, *map(str, places)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.slow
def test_a_process_killed_again_and_again_makes_the_same_model(tiny_bert, long_documents, tmp_path):
    assert start(tiny_bert, long_documents, tmp_path / "whole").wait() == 0
    for steps in (1, 7, 40):  # from wherever the last checkpoint was
        process = start(tiny_bert, long_documents, tmp_path / "parts")
        for _ in range(steps):
            process.stdout.readline()
        time.sleep(0.003 * steps)
        process.kill()
        process.communicate()
        assert not (tmp_path / "parts").exists()
    assert start(tiny_bert, long_documents, tmp_path / "parts").wait() == 0
    whole, parts = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "whole"]
