"""`unabridged adapt`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from unabridged.cli.console import (
    DONE,
    INTERRUPTED,
    PARTLY,
    notes,
    print_json,
    results,
    say,
    waiting,
)
from unabridged.cli.options import AsJson, Quiet

if TYPE_CHECKING:
    from unabridged.training.recipe import Adapted
    from unabridged.training.settings import Step

__all__ = ["adapt"]

Source = Annotated[
    str, typer.Argument(metavar="MODEL", help="A folder or Hub id, or all-MiniLM-L6-v2.")
]
Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Documents to learn from, as `index` reads them.")
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make; must not exist.")]
MaxLength = Annotated[
    int | None,
    typer.Option(
        "--max-length", metavar="N", min=2, help="Extend the model to N tokens first, if need be."
    ),
]
GoalName = Annotated[
    Literal["auto", "masked-language", "distillation"],
    typer.Option("--goal", help="What is learned; auto: the first, if the model has the head."),
]
Trains = Annotated[
    Literal["all", "positions+norms"], typer.Option("--train", help="Which weights change.")
]
Minutes = Annotated[
    float | None, typer.Option("--minutes", min=0.01, help="Time for training; 20 if absent.")
]
Steps = Annotated[
    int | None, typer.Option("--steps", min=1, help="Steps at most; alone, it repeats exactly.")
]
Rate = Annotated[float, typer.Option("--rate", help="The highest learning rate.")]
TeacherName = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        metavar="MODEL",
        help="Whose reading of windows is learned; MODEL's own if absent. To go on with a model "
        "that was adapted before, name the original here.",
    ),
]
AttentionName = Annotated[
    str | None, typer.Option("--attention", help="Train with it; exact if absent.")
]
ResidualAttention = Annotated[
    bool,
    typer.Option(
        "--residual-attention",
        help="Let layers learn to add the scores of earlier ones; such a model needs unabridged.",
    ),
]
Record = Annotated[
    bool,
    typer.Option(
        "--record",
        help="Keep every step in OUT.recording, for `why-hit`; needs --steps, in float32.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Of everything that is drawn.")]


def adapt(
    model: Source,
    folder: Folder,
    out: Out,
    max_length: MaxLength = None,
    goal: GoalName = "auto",
    train: Trains = "all",
    minutes: Minutes = None,
    steps: Steps = None,
    rate: Rate = 5e-5,
    teacher: TeacherName = None,
    attention: AttentionName = None,
    residual_attention: ResidualAttention = False,
    record: Record = False,
    seed: Seed = 0,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Teach a model to read whole documents, on documents of yours, and save it for everywhere.

    A model with a head for masked language modelling goes on guessing hidden words, now of whole
    documents. Any other teaches itself: it learns to say of a whole document, read at once, what it
    says of windows of it. Nothing is sent anywhere.

    Ctrl-C saves; the same command continues.

    For example:

    - `unabridged adapt all-MiniLM-L6-v2 contracts contracts-4k --max-length 4096`
    - `unabridged adapt minilm-8k contracts contracts-8k --minutes 60 --train positions+norms`
    """
    from unabridged.training.adaptation import adapt as adapt_checkpoint
    from unabridged.training.hits import adapt_recorded
    from unabridged.training.recipe import Recipe

    run = adapt_recorded if record else adapt_checkpoint
    try:
        recipe = Recipe(
            goal=goal,
            trains=train,
            max_length=max_length,
            minutes=20.0 if minutes is None and steps is None else minutes,
            steps=steps,
            rate=rate,
            teacher=teacher,
            attention=attention,
            residual_attention=residual_attention,
            seed=seed,
        )
        with _watching(quiet=quiet) as on_step:
            made = run(_model(model), folder, out, recipe=recipe, on_step=on_step)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    _tell(made, quiet=quiet, as_json=as_json)
    if made.ended == "interrupted":
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(PARTLY if made.failed else DONE)


def _model(name: str) -> str | None:
    """None for the default model by its name: its package is not the Hub cache."""
    from unabridged.encoder.checkpoint import DEFAULT_MODEL

    names = (DEFAULT_MODEL, DEFAULT_MODEL.rpartition("/")[2])
    return None if name in names and not Path(name).is_dir() else name


@contextmanager
def _watching(*, quiet: bool) -> Iterator[Callable[[Step], None] | None]:
    """A callback that draws a bar in time, on a terminal; elsewhere a line at every look."""
    if quiet:
        yield None
    elif not sys.stderr.isatty():
        yield lambda step: say(_line(step)) if step.held_out is not None else None
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[facts]}"),
        )
        with waiting("Reading the documents", quiet=quiet) as status:
            bar = Progress(*columns, console=notes(), transient=True)
            task = bar.add_task("Training", total=1.0, facts="")

            def draw(step: Step) -> None:
                if not bar.live.is_started:
                    getattr(status, "stop", lambda: None)()
                    bar.start()
                left = step.seconds_left or 0.0
                share = step.seconds / (step.seconds + left) if left else 1.0
                bar.update(task, completed=share, facts=_line(step))

            try:
                yield draw
            finally:
                bar.stop()


def _line(step: Step) -> str:
    parts = [f"step {step.number:,}, loss {step.loss:.4f}"]
    if step.held_out is not None:
        parts.append(f"held out {step.held_out:.4f}")
    if step.seconds_left is not None:
        parts.append(f"{timedelta(seconds=round(step.seconds_left))} left")
    return ", ".join(parts)


def _tell(made: Adapted, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(made))
    else:
        results().print(_table(made))
    if quiet:
        return
    for name, reason in made.failed:
        say(f"Not read: {name}: {reason}")
    if made.ended == "interrupted":
        say("Interrupted, and saved. The same command continues.")


def _as_json(made: Adapted) -> dict[str, Any]:
    return {**asdict(made), "failed": [{"id": n, "reason": r} for n, r in made.failed]}


def _table(made: Adapted) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    rows = {
        "Folder": str(made.folder) if made.ended != "interrupted" else "not yet there",
        "Goal": made.goal,
        "Ended": f"{made.ended}, after {made.steps:,} steps and {made.seconds:,.0f} s",
        "Documents": f"{made.documents:,} to learn from, {made.held_out:,} held out",
        "Loss": f"{made.loss_before:.4f} → {made.loss:.4f} on those held out",
        "Positions": f"{made.positions:,}",
    }
    for name, value in rows.items():
        table.add_row(name, Text(value))
    return table
