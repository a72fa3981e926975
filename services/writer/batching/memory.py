"""What the writer does with free memory: as every service that must."""

from __future__ import annotations

from libs.runtime.memory import give_back, keep_compact

__all__ = ["give_back", "keep_compact"]
