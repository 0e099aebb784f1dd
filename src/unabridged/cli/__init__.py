"""The command line: parse, call, print. Heavy libraries are imported when a command needs them."""

from __future__ import annotations

from unabridged.cli.main import app, main

__all__ = ["app", "main"]
