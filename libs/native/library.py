"""What was compiled, loaded. ctypes lets other threads run meanwhile."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import structlog

from libs.native.compiling import compiled_path

log = structlog.get_logger()
Call = Callable[[ctypes.Structure, ctypes.Structure], int]


@cache
def native(name: str) -> Call | None:
    """Find a function of `(const Given *, Columns *)`; None where nothing is compiled."""
    library = loaded()
    if library is None:
        return None
    function = getattr(library, name)
    function.restype = ctypes.c_int64
    return lambda given, columns: int(function(ctypes.byref(given), ctypes.byref(columns)))


@cache
def loaded() -> ctypes.CDLL | None:
    """Load what was compiled; None where there is none, or it is of another system."""
    try:
        return ctypes.CDLL(str(compiled_path()))
    except OSError:
        return None


def warn_where_nothing_is_compiled(*, costs: str) -> None:
    """All works then, and nothing else tells why it takes more CPU."""
    if loaded() is None:
        log.warning("nothing_compiled", costs=costs, remedy="make setup")


def address(array: npt.NDArray[np.generic]) -> int:
    return int(array.ctypes.data)
