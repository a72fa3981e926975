"""The exchange's REST budget per client: weights a minute, 429, and a 418 ban for who goes on."""

from __future__ import annotations

from dataclasses import dataclass, field

_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """May the request be served: status 200, 429 or 418, and how long to stay away."""

    status: int
    used: int
    retry_after_s: int = 0


@dataclass(slots=True)
class _Client:
    minute: int = -1
    used: int = 0
    refusals: int = 0
    banned_until_s: float = 0.0


@dataclass(slots=True)
class WeightBudget:
    """Counts by clock minute, as the exchange does. Times are passed in, in seconds."""

    limit: int = 6_000
    refusals_before_ban: int = 20
    ban_s: float = 120.0
    _clients: dict[str, _Client] = field(default_factory=dict)
    _refusing: tuple[int, float] = (0, 0.0)

    def spend(self, client: str, weight: int, now_s: float) -> Verdict:
        """Charge a request and say whether it is served."""
        account = self._clients.setdefault(client, _Client())
        self._turn_page(account, now_s)
        status, until_s = self._refusing
        if now_s < until_s:
            return Verdict(status, account.used, _whole(until_s - now_s))
        if now_s < account.banned_until_s:
            return Verdict(418, account.used, _whole(account.banned_until_s - now_s))
        account.used += weight
        if account.used <= self.limit:
            return Verdict(200, account.used)
        return self._refuse(account, now_s)

    def refuse(self, status: int, until_s: float) -> None:
        """Refuse everybody with `status` until a time, as a fault on demand."""
        self._refusing = status, until_s

    def used(self, now_s: float) -> int:
        """Return what the client that used most has used of this minute."""
        minute = int(now_s // _MINUTE_S)
        return max((c.used for c in self._clients.values() if c.minute == minute), default=0)

    def _refuse(self, account: _Client, now_s: float) -> Verdict:
        account.refusals += 1
        if account.refusals > self.refusals_before_ban:
            account.banned_until_s = now_s + self.ban_s
            return Verdict(418, account.used, _whole(self.ban_s))
        return Verdict(429, account.used, _whole(_MINUTE_S - now_s % _MINUTE_S))

    def _turn_page(self, account: _Client, now_s: float) -> None:
        minute = int(now_s // _MINUTE_S)
        if account.minute != minute:
            account.minute, account.used, account.refusals = minute, 0, 0


def _whole(seconds: float) -> int:
    return max(1, int(seconds + 0.999))
