"""`python -m services.query`: run the query service."""

from __future__ import annotations

from libs.runtime.service import main
from services.query.app import build
from services.query.config import QueryConfig

if __name__ == "__main__":
    main(QueryConfig, build)
