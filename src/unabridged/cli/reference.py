"""The reference of all commands as Markdown, taken from the commands themselves.

`python -m unabridged.cli.reference docs/guides/command-line.md` rewrites what stands between the
two marks of that page; a test fails while it is out of date.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo

from unabridged.cli.main import app

__all__ = ["BEGIN", "END", "commands", "reference", "updated"]

BEGIN = "<!-- begin: written by python -m unabridged.cli.reference -->"
END = "<!-- end -->"


def updated(page: str) -> str:
    """A page with the part between the marks as it should be.

    Raises:
        ValueError: the page has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"reference: the page lacks a mark; it needs {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n\n{reference()}\n{END}{after}"


def reference() -> str:
    """All commands, those of groups last."""
    return "\n".join(_section(name, command) for name, command in commands().items())


def commands() -> dict[str, Callable[..., None]]:
    """The function behind every command, by what is typed after `unabridged`."""
    groups = {f"{group.name} ": group.typer_instance for group in app.registered_groups}
    return {
        prefix + (command.name or command.callback.__name__): command.callback
        for prefix, part in {"": app, **groups}.items()
        if part is not None
        for command in part.registered_commands
        if command.callback is not None
    }


def _section(name: str, command: Callable[..., None]) -> str:
    hints = get_type_hints(command, include_extras=True)
    found = inspect.signature(command).parameters.values()
    parameters = [Parameter(each.name, get_args(hints[each.name]), each.default) for each in found]
    arguments = [each for each in parameters if each.is_argument]
    usage = " ".join([f"unabridged {name}", *(each.info.metavar for each in arguments)])
    lines = [f"### {name}", "", "```text", f"{usage} [OPTIONS]", "```", ""]
    lines += [inspect.cleandoc(command.__doc__ or ""), "", "| | |", "| --- | --- |"]
    lines += [
        f"| {each.spelling} | {each.info.help or ''}{each.shown_default} |" for each in parameters
    ]
    return "\n".join([*lines, ""])


@dataclass(frozen=True)
class Parameter:
    """One argument or option, as its function declares it.

    Attributes:
        name: in Python.
        annotated: its type, and what Typer was told of it.
        default: in Python.
    """

    name: str
    annotated: tuple[Any, ...]
    default: Any

    @property
    def info(self) -> Any:  # noqa: ANN401 - either of two classes of Typer
        """Typer's ArgumentInfo or OptionInfo."""
        return self.annotated[1]

    @property
    def is_argument(self) -> bool:
        """Whether it has no dashes."""
        return isinstance(self.info, ArgumentInfo)

    @property
    def spelling(self) -> str:
        """As it is typed."""
        if self.is_argument:
            return f"`{self.info.metavar}`"
        # Inside Annotated, Typer keeps the first spelling in the place of the default.
        spelled = [self.info.default, *(self.info.param_decls or ())]
        known = [name for name in spelled if isinstance(name, str)] or [f"--{self.name}"]
        names = ", ".join(f"`{name}`" for name in known)
        kind = self.annotated[0]
        if kind is bool:
            return names
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        other = "NUMBER" if kind is int else "PATH"
        return f"{names} `{self.info.metavar or '/'.join(choices) or other}`"

    @property
    def shown_default(self) -> str:
        """Where it says more than that nothing was said."""
        silent = self.default in (None, False, inspect.Parameter.empty)
        return "" if silent else f" Default: {self.default}."


def _main(path: Path) -> None:
    path.write_text(updated(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
