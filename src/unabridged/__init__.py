"""unabridged: read the whole document with the short-text encoder that you already have.

The front door. Names are imported when they are first used, so that `import unabridged` costs
nothing and `import unabridged.geometry` loads no model library. The attentions of this house become
known to transformers as soon as both are imported: `attn_implementation="multipole"`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from unabridged._late_registration import watch

if TYPE_CHECKING:
    from unabridged._reading import Reading
    from unabridged.attribution import Recorder
    from unabridged.collection import Collection, Hit
    from unabridged.encoder import LongEncoder
    from unabridged.encoder.extension import extend
    from unabridged.geometry.gaussian import Gaussian
    from unabridged.geometry.moments import Moments
    from unabridged.geometry.random_projection import RandomProjection
    from unabridged.geometry.sign_codes import SignCodes
    from unabridged.geometry.whitening import Whitening

__version__ = "0.1.0"

__all__ = [
    "Collection",
    "Gaussian",
    "Hit",
    "LongEncoder",
    "Moments",
    "RandomProjection",
    "Reading",
    "Recorder",
    "SignCodes",
    "Whitening",
    "__version__",
    "extend",
]

_HOMES = {
    "Collection": "unabridged.collection",
    "Gaussian": "unabridged.geometry.gaussian",
    "Hit": "unabridged.collection",
    "LongEncoder": "unabridged.encoder",
    "Moments": "unabridged.geometry.moments",
    "RandomProjection": "unabridged.geometry.random_projection",
    "Reading": "unabridged._reading",
    "Recorder": "unabridged.attribution",
    "SignCodes": "unabridged.geometry.sign_codes",
    "Whitening": "unabridged.geometry.whitening",
    "extend": "unabridged.encoder.extension",
}


watch()


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'unabridged' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
