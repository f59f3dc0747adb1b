"""Assembles the commands, and turns every failure that a user can cause into one line and an exit code.

Exit codes: 0, done; 1, the numbers diverged, memory ran out, or another process of the run was lost; 2, wrong input; 130,
interrupted by Ctrl-C; 143, ended by SIGTERM.
"""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from jointebm.cli.commands.data import data
from jointebm.cli.commands.evaluate import evaluate
from jointebm.cli.commands.figures import figures
from jointebm.cli.commands.fit import fit
from jointebm.cli.commands.impute import impute
from jointebm.cli.commands.predict import predict
from jointebm.cli.commands.recipes import recipes
from jointebm.cli.commands.sample import sample
from jointebm.cli.commands.score import score
from jointebm.cli.commands.train import train
from jointebm.cli.commands.watch import watch
from jointebm.cli.console import Interrupted, exit_code, say
from jointebm.cli.shared_errors import is_told_by_first
from jointebm.runs.interrupts import raise_on_terminate
from jointebm.training.world import FailedElsewhere, LostProcess

__all__ = ["app", "main"]

TABLES, BLOCKS, BOTH = "Models of tables", "Models of blocks", "Models of either kind"

app = typer.Typer(rich_markup_mode="markdown", pretty_exceptions_enable=False)
"""All commands; `main` runs them, and turns failures that a user can cause into one line.

Example:
    >>> sorted(command.callback.__name__ for command in app.registered_commands)[:3]
    ['data', 'evaluate', 'figures']
"""

for panel, commands in (
    (TABLES, (fit, impute, score)),
    (BLOCKS, (recipes, data, train, evaluate, figures)),
    (BOTH, (predict, sample, watch)),
):
    for command in commands:
        app.command(rich_help_panel=panel)(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jointebm {version('jointebm')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _without_command(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """One energy-based model of the joint density of mixed continuous and discrete data.

    A model of a table is fitted to a CSV or Parquet file with 'fit'. A model of blocks, such as an image and its label, is
    trained from a recipe with 'train'. Either predicts and samples any variables given any others.
    """
    if context.invoked_subcommand is None and not show_version:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the words after `jointebm`; None takes them from the process.

    Returns:
        The exit code, as above. Wrong input raises nothing: it is one line on standard error.

    Example:
        >>> main(["train", "a-recipe-that-is-unknown"])  # one line on standard error
        2
    """
    try:
        with raise_on_terminate() as pending:
            code = app(arguments, prog_name="jointebm", standalone_mode=False)
    except Interrupted as interrupted:
        say(str(interrupted))
        return interrupted.exit_code
    except FailedElsewhere as failed:
        return failed.exit_code
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)  # a usage error knows its command
        command = context.command_path if context else "jointebm"
        message = error.format_message().replace("Value error, ", "").rstrip(".")
        return _refuse(f"{message}. See '{command} --help'.")
    except LostProcess as error:
        say(f"error: {error}")
        return 1
    except (ValueError, TypeError, OSError, ImportError) as error:
        return _refuse(_reason(error))
    except FloatingPointError as error:
        say(f"error: {error}")
        return 1
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        say("error: not enough memory; ask for fewer samples, chains or rows at once")
        return 1
    if code == 130:  # Ctrl-C or SIGTERM that no command has reported
        say("interrupted")
        return exit_code(pending.reason or KeyboardInterrupt())
    return int(code or 0)


def _refuse(message: str) -> int:
    if not is_told_by_first(message):
        say(f"error: {message}")
    return 2


def _reason(error: Exception) -> str:
    """The message of an error; one of the operating system starts with the name of its file."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__
