"""The error tree.

K2Error
├── InvalidError            what the caller asked for makes no sense
│   └── PrecisionError      a number needs more digits than the table keeps
├── NotFoundError           what the caller named is not there
├── ConflictError           somebody else changed it first
├── UnavailableError        a part K2 needs does not answer; worth another try
├── ExhaustedError          a bound was reached: a queue, a rate, memory
├── CorruptError            stored data is not what was written
└── ConfigError             the configuration is wrong
"""

from __future__ import annotations

from typing import ClassVar, Literal

Code = Literal[
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ABORTED",
    "UNAVAILABLE",
    "RESOURCE_EXHAUSTED",
    "DATA_LOSS",
    "FAILED_PRECONDITION",
    "INTERNAL",
]


class K2Error(Exception):
    """What K2 raises: one sentence for people, and facts for programs.

    A subclass sets `reason` (stable, UPPER_SNAKE), `retriable` and the gRPC `code`; facts go in as
    keywords and come out in `facts`, in logs and in google.rpc.ErrorInfo.metadata.
    """

    reason: ClassVar[str] = "INTERNAL"
    retriable: ClassVar[bool] = False
    code: ClassVar[Code] = "INTERNAL"

    def __init__(self, message: str, /, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts


class InvalidError(K2Error):
    """A request or record that cannot be right; `field` names what is wrong with it."""

    reason = "INVALID"
    code = "INVALID_ARGUMENT"

    def __init__(self, message: str, /, *, field: str, **facts: object) -> None:
        super().__init__(message, field=field, **facts)
        self.field = field


class PrecisionError(InvalidError):
    """A price or quantity that does not fit decimal(28, 12) exactly."""

    reason = "PRECISION"


class NotFoundError(K2Error):
    """What the caller named is not there."""

    reason = "NOT_FOUND"
    code = "NOT_FOUND"


class ConflictError(K2Error):
    """Somebody else changed it first."""

    reason = "CONFLICT"
    retriable = True
    code = "ABORTED"


class UnavailableError(K2Error):
    """A part K2 needs does not answer; `retry_after_s` says when another try makes sense."""

    reason = "UNAVAILABLE"
    retriable = True
    code = "UNAVAILABLE"

    def __init__(self, message: str, /, *, retry_after_s: float = 1.0, **facts: object) -> None:
        super().__init__(message, **facts)
        self.retry_after_s = retry_after_s


class ExhaustedError(K2Error):
    """A bound was reached; `retry_after_s` says when another try makes sense."""

    reason = "EXHAUSTED"
    retriable = True
    code = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, /, *, retry_after_s: float = 1.0, **facts: object) -> None:
        super().__init__(message, **facts)
        self.retry_after_s = retry_after_s


class CorruptError(K2Error):
    """Stored data is not what was written."""

    reason = "CORRUPT"
    code = "DATA_LOSS"


class ConfigError(K2Error):
    """The configuration is wrong; the message names each mistake."""

    reason = "CONFIG"
    code = "FAILED_PRECONDITION"
