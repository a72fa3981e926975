"""`python -m services.writer`."""

from __future__ import annotations

from libs.runtime.service import main
from services.writer.app import build
from services.writer.config import WriterConfig

if __name__ == "__main__":
    main(WriterConfig, build)
