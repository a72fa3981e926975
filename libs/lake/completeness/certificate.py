"""The completeness certificate: what is held of a symbol, what is missing, and why. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from libs.lake.commits.seam import OffsetRange, Seam, TopicPartition, offset_at
from libs.lake.completeness.evidence import (
    Beyond,
    Book,
    Finding,
    Why,
    ends_of,
    series_held,
)
from libs.lake.completeness.findings import findings
from libs.lake.completeness.scope import Scope
from libs.lake.ledger.coverage import Held, IdRange, Series, join
from libs.lake.ledger.gaps import EARLIEST_US, LATEST_US, NO_GAPS, outside

# In the order in which they matter to a reader.
_WORDS = {
    Why.GAP: ("gap", "gaps"),
    Why.NOT_IN_THE_LOG: ("range the log no longer has", "ranges the log no longer has"),
    Why.ANOTHER_LOG: ("partition whose log is another one", "partitions whose log is another one"),
    Why.LOG_UNREACHABLE: ("log that is out of reach", "logs that are out of reach"),
    Why.UNREADABLE_BATCH: (
        "partition whose log cannot be read on",
        "partitions whose log cannot be read on",
    ),
    Why.LOST: ("lost range", "lost ranges"),
    Why.DEAD_LETTER: ("range of dead letters", "ranges of dead letters"),
    Why.SHED: ("shed range", "shed ranges"),
    Why.BEFORE_FIRST: ("time before the first trade held", "times before the first trades held"),
    Why.NOT_PROVABLE: ("proof, for trades have no id", "proof, for trades have no id"),
}
SMALLEST_ID = -(1 << 63)
LARGEST_ID = (1 << 63) - 1


class Bounds(NamedTuple):
    """Of what an answer is made: a snapshot, its seam, the tail's upper bound, the log's end."""

    snapshot_id: int
    seam: Seam
    high: Seam
    log_ends: Seam
    # Before the log's end is known nobody can say that nothing is missing.
    log_is_known: bool


class Account(NamedTuple):
    """What is held of a series: ids in the table, ids only the tail has, and duplicates dropped."""

    series: Series
    held: Held
    stored_ids: int
    tail_ids: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class Certificate:
    scope: Scope
    bounds: Bounds
    accounts: tuple[Account, ...]
    findings: tuple[Finding, ...]
    complete: bool


def certify(book: Book, beyond: Beyond, scope: Scope, bounds: Bounds) -> Certificate:
    """Say whether all of a scope is held, and name whatever is not."""
    found = [*findings(book, beyond, scope), *before_first(book, beyond, scope)]
    told = (*found, *not_committed(book, beyond, scope), *behind(scope, bounds))
    return Certificate(
        scope=scope,
        bounds=bounds,
        accounts=tuple(accounts(book, beyond, scope)),
        findings=told,
        complete=bounds.log_is_known and not any(finding.lacking for finding in found),
    )


def before_first(book: Book, beyond: Beyond, scope: Scope) -> Iterator[Finding]:
    """Yield the symbols of which nothing is held at the start of the times asked about.

    Whether they were traded by then, only the exchange can say. A question without a start is about
    what is held.
    """
    if scope.start_us == EARLIEST_US:
        return
    first: dict[tuple[str, str, str], tuple[int, Series]] = {}
    for series in series_held(book, beyond):
        began = (ends_of(series, book, beyond).first_us, series)
        name = series[:3]
        first[name] = min(first.get(name, began), began)
    for first_us, series in first.values():
        if scope.start_us < first_us:
            yield Finding(
                Why.BEFORE_FIRST,
                lacking=True,
                series=series,
                before_us=first_us,
                detail="nothing earlier is held: whether it was traded, only the exchange knows",
            )


def accounts(book: Book, beyond: Beyond, scope: Scope) -> Iterator[Account]:
    """Yield what is held of each series, of the ids asked about; times do not cut it."""
    for series in series_held(book, beyond):
        stored = cut(book.series.get(series, NO_GAPS).held, scope)
        more = cut(beyond.held.get(series, ()), scope)
        tail_ids = ids_in(tuple(outside(more, stored)))
        duplicates = book.duplicates.get(series, 0)
        yield Account(series, join(stored, more), ids_in(stored), tail_ids, duplicates)


def cut(held: Held, scope: Scope) -> Held:
    """Return the ranges cut to the ids asked about; their times stay those of the whole range."""
    low = SMALLEST_ID if scope.first_id is None else scope.first_id
    high = LARGEST_ID if scope.last_id is None else scope.last_id
    return tuple(
        ids._replace(first=max(ids.first, low), last=min(ids.last, high))
        for ids in held
        if ids.last >= low and ids.first <= high
    )


def ids_in(held: Held) -> int:
    return sum(ids.last - ids.first + 1 for ids in held)


def not_committed(book: Book, beyond: Beyond, scope: Scope) -> Iterator[Finding]:
    """Yield the ids that only the tail holds: the next commit brings them into the table."""
    for series, more in sorted(beyond.held.items()):
        stored = book.series.get(series, NO_GAPS).held
        for ids in outside(cut(more, scope), stored):
            if ids.first_us < scope.end_us and ids.last_us >= scope.start_us:
                yield Finding(
                    Why.NOT_COMMITTED,
                    lacking=False,
                    series=series,
                    ids=IdRange(ids.first, ids.last),
                    after_us=ids.first_us,
                    before_us=ids.last_us,
                )


def behind(scope: Scope, bounds: Bounds) -> Iterator[Finding]:
    """Yield what of the log is not read yet: the certificate says nothing of it."""
    for topic, partitions in sorted(bounds.log_ends.items()):
        for partition, end in sorted(partitions.items()):
            position = TopicPartition(topic, partition)
            high = offset_at(bounds.high, position)
            if high < end and scope.concerns(position):
                offsets = OffsetRange(high, end)
                yield Finding(Why.BEHIND, lacking=False, position=position, offsets=offsets)


def sentence(certificate: Certificate) -> str:
    """Say the certificate in one sentence."""
    name = certificate.scope.symbol or "everything"
    if certificate.complete:
        timed = (certificate.scope.start_us, certificate.scope.end_us) != (EARLIEST_US, LATEST_US)
        asked = " in the times asked about" if timed else ""
        held = held_in_words(certificate)
        return f"{name} is complete{asked}: {held}" + (" at all times together" if timed else "")
    if not certificate.bounds.log_is_known:
        return f"nobody can say yet whether {name} is complete: the end of the log is not known"
    return f"{name} is not complete: it lacks {lacks_in_words(certificate.findings)}"


def held_in_words(certificate: Certificate) -> str:
    count = sum(account.stored_ids + account.tail_ids for account in certificate.accounts)
    fresh = sum(account.tail_ids for account in certificate.accounts)
    waiting = f", {fresh:,} of them not in the table yet" if fresh else ""
    return f"{count:,} trades held{waiting}"


def lacks_in_words(found: Iterable[Finding]) -> str:
    lacking = [finding for finding in found if finding.lacking]
    counts = Counter(finding.why for finding in lacking)
    ids = sum(each.ids.last - each.ids.first + 1 for each in lacking if each.ids)
    words = [
        f"{counts[why]:,} {one if counts[why] == 1 else many}"
        for why, (one, many) in _WORDS.items()
        if why in counts
    ]
    return ", ".join(words) + (f" ({ids:,} {'id' if ids == 1 else 'ids'})" if ids else "")
