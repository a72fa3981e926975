"""Run the governor: `python -m services.governor`."""

from __future__ import annotations

from libs.runtime.service import main
from services.governor.app import build
from services.governor.config import GovernorConfig

if __name__ == "__main__":
    main(GovernorConfig, build)
