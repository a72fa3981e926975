"""Run the ingestor: `python -m services.ingestor`."""

from __future__ import annotations

from libs.runtime.service import main
from services.ingestor.app import build
from services.ingestor.config import IngestorConfig

if __name__ == "__main__":
    main(IngestorConfig, build)
