from __future__ import annotations

import typer

from tools.simulator.app import simulate

if __name__ == "__main__":
    typer.run(simulate)
