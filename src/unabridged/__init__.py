"""unabridged: read the whole document with the short-text encoder that you already have."""

from __future__ import annotations

from unabridged._reading import Reading

__version__ = "0.1.0"

__all__ = ["Reading", "__version__"]
