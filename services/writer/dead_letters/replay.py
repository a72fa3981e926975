"""Which dead letters may be sent again, and what to do about the others. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from libs.kafka.dead_letters import is_frame
from libs.kafka.topics import dead_letter_topic
from libs.wire.rejection import Reason

if TYPE_CHECKING:
    from libs.kafka.dead_letters import DeadLetter
    from libs.wire.rejection import Rejected

WHAT_TO_DO: Mapping[str, str] = {
    Reason.EMPTY: "nothing was in it: find who writes records without a value",
    Reason.FRAMING: "something that does not write Confluent's framing writes to this topic: stop"
    " it; the bytes are no trade",
    Reason.UNKNOWN_SCHEMA: "register the schema, or bring the registry back, then replay",
    Reason.INCOMPATIBLE_SCHEMA: "deploy a writer that reads the schema, then replay",
    Reason.UNDECODABLE: "find the producer that writes these bytes; where the schema was wrong,"
    " register the right one and replay",
    Reason.PRECISION: "the number needs more digits than decimal(28,12) has: widen the column, or"
    " import the trade with a number that fits",
    Reason.TIMESTAMP: "the producer's or the exchange's clock was wrong: import the trade with the"
    " right time",
    Reason.FIELD: "a field that a trade needs is empty or wrong: mend the producer, then import it",
    Reason.CONFLICT: "the table keeps the first trade of this id: compare both, and ask the"
    " exchange which is right",
}
FRAME = (
    "the ingestor could not read a frame of the exchange: mend its parser; its trades are missing"
)


def why_never(letter: DeadLetter, topic: str) -> str:
    """Say why a letter of this topic can never be sent again; empty where it can."""
    if is_frame(letter, dead_letter_topic(topic)):
        return "it was a frame of the exchange, and never a record of the topic"
    if letter.is_cut:
        kept = len(letter.raw)
        return f"only {kept:,} of its {letter.size_bytes:,} bytes were kept"
    return ""


def why_not(letter: DeadLetter, rejected: Rejected | None) -> str:
    """Say why a record would come back; empty where it would be stored now."""
    if rejected is not None:
        return f"{rejected.reason.value}: {rejected.detail}"
    if letter.reason == Reason.CONFLICT:
        return "the table holds another trade of this id, and keeps the first"
    return ""


def what_to_do(letter: DeadLetter, topic: str, refused_because: str) -> str:
    if is_frame(letter, dead_letter_topic(topic)):
        return FRAME
    if not refused_because:
        return f"it reads now: k2 dlq replay {letter.key.decode()}"
    return WHAT_TO_DO.get(letter.reason, "find who wrote it")
