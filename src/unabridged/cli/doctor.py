"""`unabridged doctor`."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.table import Table
from rich.text import Text

from unabridged.cli import checkup
from unabridged.cli.console import DONE, ERROR, print_json, results
from unabridged.cli.options import AsJson, In, ModelName

__all__ = ["doctor"]


def doctor(place: In = None, model: ModelName = None, as_json: AsJson = False) -> None:
    """Show versions, the model and its hash, the precision and why, a collection's health.

    Put its output into reports of faults. The exit code is 1 where something is wrong.

    For example:

    - `unabridged doctor --in minutes`
    """
    findings = list(checkup.check_all(place, model))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        table = Table(box=None, show_header=False)
        table.add_column(style="dim")
        table.add_column(style="dim")
        table.add_column(overflow="fold")
        for finding in findings:
            wrong = Text(f"\n{finding.wrong}" if finding.wrong else "", "bold red")
            table.add_row(finding.about, finding.name, Text(finding.value) + wrong)
        results().print(table)
    raise typer.Exit(ERROR if any(finding.wrong for finding in findings) else DONE)
