"""What a data folder of Kafka is given at its birth."""

from __future__ import annotations

from tools.kafka.folder import new_cluster_id


def test_a_cluster_id_never_begins_with_a_dash() -> None:
    """Kafka's storage tool takes such a one for an option: one folder in 64 could not be made."""
    draws = iter([b"\xf8" + bytes(15), b"\xfb" + bytes(15), b"\x04" + bytes(15)])
    assert new_cluster_id(lambda: next(draws)) == "BAAAAAAAAAAAAAAAAAAAAA"
