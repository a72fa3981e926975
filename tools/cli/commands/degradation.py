"""`k2 demo degradation`: K2 under load and short of memory, end to end."""

from __future__ import annotations

from typing import Annotated

import typer

from tools.cli.views.output import Output


def degradation(
    quick: Annotated[
        bool, typer.Option("--quick", help="Both in under three minutes on two cores.")
    ] = False,
    writers: Annotated[int, typer.Option(min=1, max=8, help="Writers that share the work.")] = 1,
    governors: Annotated[int, typer.Option(min=1, max=3, help="Governors; one leads.")] = 1,
    output: Annotated[Output | None, typer.Option("--output", "-o", help="table or json.")] = None,
) -> None:
    """See it bend, not break: all five levels by lag, then by memory, and back, and nothing lost.

    A producer floods until the writer truly falls behind; then one truly reaches its memory limit.

    Each runs on a K2 of its own, as `k2 chaos lag` and `k2 chaos memory` do; queries go on.

    It ends with 1 where any promise is not held.
    """
    # Half a second of imports that no other demo needs.
    from tools.cli.commands import chaos

    chaos.run_each(("lag", "memory"), writers, governors, output, quick=quick)
