"""A buffer's parts, and what became of their rows, in the form the commit's fence is checked by.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from libs.lake.commits.commit import Prepared
from libs.lake.commits.seam import OffsetRange, TopicPartition
from libs.lake.ledger.ledger import Account, Dead, joined
from libs.wire.rejection import Rejected
from services.writer.batching.buffer import Part
from services.writer.commits.storing import Written
from services.writer.messages import Commit

NOTHING = Written()


def prepare(message: Commit, cluster_id: str, *, now_us: int) -> Prepared:
    """Put a buffer as it stands now into the form of a commit."""
    parts = {TopicPartition(*part.partition): part for part in message.parts}
    return Prepared(
        message.commit_id,
        {at: OffsetRange(part.start, part.following) for at, part in parts.items()},
        message.files,
        kind=message.kind,
        cluster_id=cluster_id,
        accounts={
            at: account_of(part, message.written.get(at, NOTHING), now_us)
            for at, part in parts.items()
        },
        leans={at: written.leans for at, written in message.written.items() if written.leans},
    )


def account_of(part: Part, written: Written, now_us: int) -> Account:
    return Account(
        dead=dead_ranges((*part.rejected, *written.conflicts), now_us),
        shed=part.shed,
        duplicates=written.duplicates,
    )


def dead_ranges(letters: Iterable[Rejected], now_us: int) -> tuple[Dead, ...]:
    """Name dead letters by range: a burst of one symbol and reason is one."""
    return joined(
        Dead(one.offset, one.offset + 1, one.symbol, one.reason.value, now_us) for one in letters
    )


def with_conflicts(message: Commit) -> tuple[Part, ...]:
    """Return the parts, their conflicts among what was rejected."""
    return tuple(
        replace(part, rejected=(*part.rejected, *written.conflicts))
        for part in message.parts
        for written in [message.written.get(TopicPartition(*part.partition), NOTHING)]
    )
