"""What was compiled, loaded. ctypes lets other threads run meanwhile."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from libs.native.compiling import compiled_path

Call = Callable[[ctypes.Structure, ctypes.Structure], int]


@cache
def native(name: str) -> Call | None:
    """Find a function of `(const Given *, Columns *)`; None where nothing is compiled."""
    path = compiled_path()
    if not path.exists():
        return None
    function = getattr(ctypes.CDLL(str(path)), name)
    function.restype = ctypes.c_int64
    return lambda given, columns: int(function(ctypes.byref(given), ctypes.byref(columns)))


def address(array: npt.NDArray[np.generic]) -> int:
    return int(array.ctypes.data)
