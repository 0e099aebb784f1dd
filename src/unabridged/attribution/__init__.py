"""Which training examples made a model say so, and whether the sum adds up.

Recorder        around a training loop: writes down what it takes to replay it
Replay          a recording, opened
path_kernel     prediction = start + contributions + decay + rounding + residual
"""

from __future__ import annotations

from unabridged.attribution.adjoint import Effects, adjoint
from unabridged.attribution.alikeness import alikeness
from unabridged.attribution.batches import TensorData
from unabridged.attribution.errors import RecordingError
from unabridged.attribution.estimate import Estimate, estimate
from unabridged.attribution.incremental import KernelTerms, add_examples
from unabridged.attribution.kernel_machine import KernelMachine, kernel_machine
from unabridged.attribution.ledger import Entry, Ledger
from unabridged.attribution.path_kernel import path_kernel
from unabridged.attribution.projected import (
    ProjectedLedger,
    Projection,
    projected_path_kernel,
)
from unabridged.attribution.recorder import Loop, Recorder
from unabridged.attribution.replay import Replay
from unabridged.attribution.retrain import retrain
from unabridged.attribution.suspects import Suspicions, suspects
from unabridged.attribution.targets import cross_entropy_of, logit, margin, probability

__all__ = [
    "Effects",
    "Entry",
    "Estimate",
    "KernelMachine",
    "KernelTerms",
    "Ledger",
    "Loop",
    "ProjectedLedger",
    "Projection",
    "Recorder",
    "RecordingError",
    "Replay",
    "Suspicions",
    "TensorData",
    "add_examples",
    "adjoint",
    "alikeness",
    "cross_entropy_of",
    "estimate",
    "kernel_machine",
    "logit",
    "margin",
    "path_kernel",
    "probability",
    "projected_path_kernel",
    "retrain",
    "suspects",
]
