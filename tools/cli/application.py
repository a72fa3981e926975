"""The `k2` command: its words are given to the module that knows them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from errno import ENOSPC
from importlib import import_module

import typer

from libs.market.errors import ExhaustedError, K2Error
from tools.cli import variables
from tools.cli.exit_codes import OTHER_FAILURE, exit_code
from tools.cli.views.saying import let_go_of_stdout, say_error

# What these come to is not known before their end.
ENDLESS = ("demo", "up", "chaos")

# A module loads what its commands need, half a second's worth: only the one asked for is imported.
MODULES = {
    "demo": ("demo",),
    "stack": ("up", "down", "status"),
    "market": ("trades", "bars", "tail", "symbols", "snapshots"),
    "completeness": ("completeness",),
    "governor": ("governor",),
    "maintenance": ("maintenance",),
    "backfill": ("backfill",),
    "dlq": ("dlq",),
    "exchange": ("simulate", "record"),
    "chaos": ("chaos",),
}


def application(words: Sequence[str]) -> typer.Typer:
    """Build the command: all of it, or as much as these words ask for."""
    app = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        epilog="Exit codes: 0 done, 1 the proof failed, 2 wrong usage, 3 not running,"
        " 4 not found, 5 anything else, 6 not complete.",
    )
    app.callback()(k2)
    asked = [module for module, commands in MODULES.items() if words and words[0] in commands]
    for module in asked or MODULES:
        import_module(f"tools.cli.commands.{module}").register(app)
    return app


def k2() -> None:
    """K2: every trade captured, kept for ever, and queried together with the last millisecond."""


def run(words: Sequence[str]) -> None:
    """Run the command; an error is one sentence on stderr and an exit code."""
    # Libraries warn on their own of what ends as our one sentence.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        if "--help" not in words:
            variables.check(os.environ)
        application(words)(words)
    except SystemExit as end:
        # Rich ends with 1 where `head` has seen enough; an answer cut short by its reader is done.
        endless = {*words[:1]} & {*ENDLESS} and "--help" not in words
        left = isinstance(end.__context__, BrokenPipeError) and not endless
        sys.exit(0 if left else end.code)
    except K2Error as error:
        say_error(sentence_of(error))
        sys.exit(exit_code(error))
    except OSError as error:
        if error.filename is None and error.errno != ENOSPC:
            raise
        let_go_of_stdout()
        where = error.filename or "the disk that the answer goes to"
        say_error(f"{where}: {str(error.strerror).lower()}")
        sys.exit(OTHER_FAILURE)


def sentence_of(error: K2Error) -> str:
    """Say what went wrong and, where a bound was reached, when to try again."""
    if isinstance(error, ExhaustedError):
        return f"{error.message}; try again in {error.retry_after_s:g} s"
    return error.message
