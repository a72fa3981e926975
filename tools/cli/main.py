"""The `k2` command.

Exit codes: 0 done, 1 the proof failed, 2 wrong usage, 3 not running or not answering,
4 not found, 5 anything else, 130 interrupted.
"""

from __future__ import annotations

import os
import sys

import typer
from rich.console import Console

from libs.market.errors import (
    ConfigError,
    ExhaustedError,
    InvalidError,
    K2Error,
    NotFoundError,
    UnavailableError,
)
from tools.cli import demo, exchange, governor, market, stack

EXIT_CODES: dict[type[K2Error], int] = {
    InvalidError: 2,
    ConfigError: 2,
    UnavailableError: 3,
    ExhaustedError: 3,
    NotFoundError: 4,
}
OTHER_FAILURE = 5
INTERRUPTED = 130

app = typer.Typer(
    help="K2: every trade captured, kept for ever, and queried together with the last millisecond.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 1 the proof failed, 2 wrong usage, 3 not running,"
    " 4 not found, 5 anything else.",
)
demo.register(app)
stack.register(app)
market.register(app)
governor.register(app)
exchange.register(app)


def main() -> None:
    """Run the command; an error is one sentence on stderr and an exit code."""
    try:
        app()
    except K2Error as error:
        Console(stderr=True, highlight=False).print(f"[bold red]error:[/] {error.message}")
        sys.exit(exit_code(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def exit_code(error: K2Error) -> int:
    """Return the exit code for an error, by its nearest kind."""
    kinds = (EXIT_CODES.get(kind) for kind in type(error).__mro__ if issubclass(kind, K2Error))
    return next((code for code in kinds if code is not None), OTHER_FAILURE)
