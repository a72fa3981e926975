"""K2Error to google.rpc.Status and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2

from libs.market.errors import (
    Code,
    ConfigError,
    ConflictError,
    CorruptError,
    ExhaustedError,
    InvalidError,
    K2Error,
    NotFoundError,
    UnavailableError,
)

DOMAIN = "k2.dev"
DETAILS_KEY = "grpc-status-details-bin"
# Errors travel in HTTP/2 trailers, of which peers take 8 KiB; the message goes three times, once
# with three bytes for each of its own.
MESSAGE_BYTES = 800
FACT_BYTES = 200
FACTS_BYTES = 1_600

BY_CODE: dict[str, type[K2Error]] = {
    "INVALID_ARGUMENT": InvalidError,
    "NOT_FOUND": NotFoundError,
    "ABORTED": ConflictError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": UnavailableError,
    "CANCELLED": UnavailableError,
    "RESOURCE_EXHAUSTED": ExhaustedError,
    "DATA_LOSS": CorruptError,
    "FAILED_PRECONDITION": ConfigError,
}


def to_status(error: K2Error) -> status_pb2.Status:
    """Encode an error: ErrorInfo always, BadRequest with its field, RetryInfo with its time."""
    code = code_pb2.Code.Value(error.code)
    status = status_pb2.Status(code=code, message=message_of(error))
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=DOMAIN, metadata=dict(_facts_that_fit(error))
    )
    status.details.add().Pack(info)
    for detail in _further_details(error):
        status.details.add().Pack(detail)
    return status


def from_status(status: status_pb2.Status) -> K2Error:
    """Rebuild the error; facts come back as text."""
    info, field, retry_after_s = error_details_pb2.ErrorInfo(), "", None
    for detail in status.details:
        bad_request, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(bad_request) and bad_request.field_violations:
            field = bad_request.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
        else:
            detail.Unpack(info)
    facts: dict[str, Any] = dict(info.metadata)
    kind = _class_of(info.reason, code_pb2.Code.Name(status.code))
    return _build(kind, status.message, facts, field=field, retry_after_s=retry_after_s)


def from_rpc_error(error: grpc.aio.AioRpcError) -> K2Error:
    """Rebuild the error that a server raised, or say why no server answered."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            return from_status(status_pb2.Status.FromString(cast(bytes, value)))
    name = error.code().name
    kind = BY_CODE.get(name, K2Error)
    details = error.details() or name.lower().replace("_", " ")
    return _build(kind, details, {"grpc_code": name}, field="", retry_after_s=None)


def code_of(error: K2Error) -> grpc.StatusCode:
    code: Code = error.code
    return grpc.StatusCode[code]


def message_of(error: K2Error) -> str:
    """Cut the message to what a status can carry."""
    return _cut(error.message, MESSAGE_BYTES)


def _facts_that_fit(error: K2Error) -> Iterator[tuple[str, str]]:
    left = FACTS_BYTES
    for name, value in error.facts.items():
        key, text = _cut(name, FACT_BYTES), _cut(str(value), FACT_BYTES)
        left -= len(key.encode()) + len(text.encode())
        if left < 0:
            return
        yield key, text


def _cut(text: str, most_bytes: int) -> str:
    return text.encode(errors="replace")[:most_bytes].decode(errors="ignore")


def _further_details(
    error: K2Error,
) -> Iterator[error_details_pb2.BadRequest | error_details_pb2.RetryInfo]:
    if isinstance(error, InvalidError):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=message_of(error)
        )
        yield error_details_pb2.BadRequest(field_violations=[violation])
    if isinstance(error, UnavailableError | ExhaustedError):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_after_s * 1_000))
        yield retry


def _class_of(reason: str, code: str) -> type[K2Error]:
    """The class with this reason, if its constructor is one of the tree's own; else by code."""
    by_code = BY_CODE.get(code, K2Error)
    matching = (kind for kind in _tree(by_code) if kind.reason == reason and _plain(kind))
    return next(matching, by_code)


def _tree(root: type[K2Error]) -> Iterator[type[K2Error]]:
    yield root
    for kind in root.__subclasses__():
        yield from _tree(kind)


def _plain(kind: type[K2Error]) -> bool:
    own = (K2Error, InvalidError, UnavailableError, ExhaustedError)
    return any(kind.__init__ is base.__init__ for base in own)


def _build(
    kind: type[K2Error],
    message: str,
    facts: dict[str, Any],
    *,
    field: str,
    retry_after_s: float | None,
) -> K2Error:
    if issubclass(kind, InvalidError):
        return kind(message, **(facts | {"field": field or str(facts.get("field", ""))}))
    if issubclass(kind, UnavailableError | ExhaustedError) and retry_after_s is not None:
        return kind(message, **(facts | {"retry_after_s": retry_after_s}))
    return kind(message, **facts)
