"""The table of a service's variables that --help prints."""

from __future__ import annotations

import textwrap
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import ByteSize
from pydantic.fields import FieldInfo

WIDTH = 110
TITLES = ("variable", "type", "default", "meaning")
TYPE_NAMES = {
    ByteSize: "bytes",
    Path: "path",
    bool: "true or false",
    float: "number",
    int: "integer",
    str: "text",
}


def table(fields: Mapping[str, FieldInfo]) -> str:
    """Lay out variable, type, default and meaning in columns."""
    rows = [TITLES, *(_row(variable, field) for variable, field in fields.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(TITLES) - 1)]
    return "\n".join(_line(row, widths) for row in rows)


def _row(variable: str, field: FieldInfo) -> tuple[str, str, str, str]:
    default = "required" if field.is_required() else _shown(field.get_default())
    return variable, _type_name(field.annotation), default, field.description or ""


def _line(row: tuple[str, ...], widths: Iterable[int]) -> str:
    start = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + "  "
    meaning = textwrap.wrap(row[-1], max(WIDTH - len(start), 30)) or [""]
    return start + f"\n{' ' * len(start)}".join(meaning)


def _shown(default: object) -> str:
    if default is None or default == ():
        return "-"
    if isinstance(default, ByteSize):
        return default.human_readable(separator="").replace(".0", "")
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return str(default)


def _type_name(annotation: object) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(parts[0])
    if origin is Literal:
        return "|".join(map(str, parts))
    if origin in (Union, types.UnionType):
        return "|".join(_type_name(p) for p in parts if p is not types.NoneType)
    if origin is tuple:
        return f"{_type_name(parts[0])},..."
    return TYPE_NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))  # type: ignore[call-overload, no-any-return]
