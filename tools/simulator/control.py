"""What a WebSocket client may ask for, and what the exchange answers: no sockets here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from tools.simulator.chunk import Form, TimeUnit

MOST_STREAMS = 1_024
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_LONGEST_ID = 36
_LARGEST_ID = 2**63
_ENCODE = msgspec.json.encode


class _BadRequestError(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(slots=True)
class Subscriptions:
    """One connection's streams and properties, changed by its requests.

    `version` rises with every change, so that what is derived from the streams can be kept.
    """

    streams: dict[str, None]
    combined: bool
    time_unit: TimeUnit = "ms"
    version: int = 0

    @classmethod
    def of(cls, streams: Iterable[str], *, combined: bool, time_unit: TimeUnit) -> Subscriptions:
        return cls(dict.fromkeys(s for s in streams if s), combined, time_unit)

    @property
    def form(self) -> Form:
        return Form(self.time_unit, self.combined)

    def answer(self, request: bytes) -> bytes:
        """Do what a request asks for and return the exchange's answer to it."""
        request_id: object = None
        try:
            fields = _parse(request)
            request_id = _request_id(fields)
            result = self._do(_method(fields), fields.get("params", []))
        except _BadRequestError as error:
            return _ENCODE({"code": error.code, "msg": error.text, "id": request_id})
        return _ENCODE({"result": result, "id": request_id})

    def _do(self, method: str, params: object) -> object:
        if not isinstance(params, list):
            raise _BadRequestError(2, "Invalid request: params must be an array")
        if method == "SUBSCRIBE":
            self._subscribe(_names(params))
            return None
        if method == "UNSUBSCRIBE":
            self._unsubscribe(_names(params))
            return None
        if method == "LIST_SUBSCRIPTIONS":
            return list(self.streams)
        return self._property(method, params)

    def _subscribe(self, names: list[str]) -> None:
        streams = self.streams | dict.fromkeys(names)
        if len(streams) > MOST_STREAMS:
            raise _BadRequestError(2, f"Invalid request: at most {MOST_STREAMS} streams")
        self.streams = streams
        self.version += 1

    def _unsubscribe(self, names: list[str]) -> None:
        for name in names:
            self.streams.pop(name, None)
        self.version += 1

    def _property(self, method: str, params: list[object]) -> object:
        wanted = 2 if method == "SET_PROPERTY" else 1
        if len(params) > wanted:
            raise _BadRequestError(2, "Invalid request: too many parameters")
        if not params or not isinstance(params[0], str):
            raise _BadRequestError(2, "Invalid request: property name must be a string")
        if params[0] != "combined":
            raise _BadRequestError(0, "Unknown property")
        if method == "GET_PROPERTY":
            return self.combined
        self._set_combined(params[1] if len(params) == wanted else None)
        return None

    def _set_combined(self, value: object) -> None:
        if not isinstance(value, bool):
            raise _BadRequestError(1, "Invalid value type: expected Boolean")
        self.combined = value
        self.version += 1


def _parse(request: bytes) -> dict[str, object]:
    try:
        fields = msgspec.json.decode(request)
    except msgspec.DecodeError as error:
        raise _BadRequestError(3, f"Invalid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise _BadRequestError(2, "Invalid request: expected an object")
    return fields


def _request_id(fields: dict[str, object]) -> object:
    request_id = fields.get("id")
    is_number = isinstance(request_id, int) and not isinstance(request_id, bool)
    if request_id is None or (is_number and -_LARGEST_ID <= int(str(request_id)) < _LARGEST_ID):
        return request_id
    if isinstance(request_id, str) and request_id.isalnum() and len(request_id) <= _LONGEST_ID:
        return request_id
    raise _BadRequestError(2, "Invalid request: request ID must be an unsigned integer")


def _method(fields: dict[str, object]) -> str:
    method = fields.get("method")
    if method is None:
        raise _BadRequestError(2, "Invalid request: missing field `method`")
    if method not in _METHODS:
        known = ", ".join(f"`{name}`" for name in _METHODS)
        raise _BadRequestError(
            2, f"Invalid request: unknown variant `{method}`, expected one of {known}"
        )
    return str(method)


def _names(params: list[object]) -> list[str]:
    names = [name for name in params if isinstance(name, str) and name]
    if not params or len(names) < len(params):
        raise _BadRequestError(2, "Invalid request: params must be stream names")
    return names
