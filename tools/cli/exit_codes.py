"""Exit codes of the `k2` command.

0 done, 1 the proof failed, 2 wrong usage, 3 not running or not answering, 4 not found,
5 anything else, 6 not complete, 130 interrupted.
"""

from __future__ import annotations

from libs.market.errors import (
    ConfigError,
    ExhaustedError,
    InvalidError,
    K2Error,
    NotFoundError,
    UnavailableError,
)

EXIT_CODES: dict[type[K2Error], int] = {
    InvalidError: 2,
    ConfigError: 2,
    UnavailableError: 3,
    ExhaustedError: 3,
    NotFoundError: 4,
}
OTHER_FAILURE = 5
NOT_COMPLETE = 6


def exit_code(error: K2Error) -> int:
    """Return the exit code for an error, by its nearest kind."""
    kinds = (EXIT_CODES.get(kind) for kind in type(error).__mro__ if issubclass(kind, K2Error))
    return next((code for code in kinds if code is not None), OTHER_FAILURE)
