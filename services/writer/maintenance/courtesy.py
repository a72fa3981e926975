"""How maintenance gives way to ingest: it stops, waits or rests between two pieces of work."""

from __future__ import annotations

import time
from collections.abc import Callable

from libs.market.errors import K2Error

LONGEST_REST_S = 1.0
LONGEST_WAIT_S = 2.0
LOOK_AGAIN_S = 0.01


class YieldedError(K2Error):
    """The work was given up for ingest; it is begun again later."""

    reason = "YIELDED"
    retriable = True


class Courtesy:
    """For one step, in its own thread.

    `forbidden` says why work must stop, empty while it may go on. `busy` says whether a commit is
    under way; it is waited for, but never long: rows that come without end would stop all else.
    """

    def __init__(
        self, forbidden: Callable[[], str], busy: Callable[[], bool], *, share: float
    ) -> None:
        self._forbidden = forbidden
        self._busy = busy
        self._rest_for_work = 1 / share - 1
        self._worked_s = time.thread_time()
        self.rows = 0

    def between_pieces(self, rows: int) -> None:
        """Rest as long as the share demands.

        Raises:
            YieldedError: the work must stop.
        """
        self.rows += rows
        worked_s = time.thread_time() - self._worked_s
        self._rest(min(worked_s * self._rest_for_work, LONGEST_REST_S))
        self._let_commit()
        self._refuse()
        self._worked_s = time.thread_time()

    def _rest(self, rest_s: float) -> None:
        if rest_s > 0:
            time.sleep(rest_s)

    def _let_commit(self) -> None:
        until_s = time.monotonic() + LONGEST_WAIT_S
        while self._busy() and time.monotonic() < until_s and not self._forbidden():
            time.sleep(LOOK_AGAIN_S)

    def _refuse(self) -> None:
        why = self._forbidden()
        if why:
            raise YieldedError(why)
