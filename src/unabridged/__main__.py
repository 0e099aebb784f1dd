"""`python -m unabridged` is the command line."""

from __future__ import annotations

from unabridged.cli import main

if __name__ == "__main__":
    main()
