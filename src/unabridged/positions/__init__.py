"""Position tables: made longer, made from sinusoids, and looked into. Pure functions of tensors."""

from __future__ import annotations

from unabridged.positions.diagnosis import TableDiagnosis, diagnose, extrapolation_error
from unabridged.positions.sinusoids import (
    decay_profile,
    exact_profile,
    shift_operator,
    sinusoidal,
    smooth_range,
)
from unabridged.positions.tables import (
    SCHEMES,
    Form,
    Scheme,
    default_base,
    grouped,
    hierarchical,
    interpolated,
    interpolated_hierarchical,
    recurrent,
)

__all__ = [
    "SCHEMES",
    "Form",
    "Scheme",
    "TableDiagnosis",
    "decay_profile",
    "default_base",
    "diagnose",
    "exact_profile",
    "extrapolation_error",
    "grouped",
    "hierarchical",
    "interpolated",
    "interpolated_hierarchical",
    "recurrent",
    "shift_operator",
    "sinusoidal",
    "smooth_range",
]
