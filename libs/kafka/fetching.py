"""How much a consumer asks the brokers for at a time, changed while it runs.

aiokafka reads both bounds when it builds a request, through its fetcher's inner parts: hence its
version is held below the next.
"""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer


def fetch_a_share(kafka: AIOKafkaConsumer, share: int) -> None:
    """Ask for one `share`-th of what it was opened for, from its next request on.

    A broker always gives one batch, however little is asked for.
    """
    fetcher = kafka._fetcher  # noqa: SLF001 (see above)
    fetcher._max_partition_fetch_bytes = kafka._max_partition_fetch_bytes // share  # noqa: SLF001
    fetcher._fetch_max_bytes = kafka._fetch_max_bytes // share  # noqa: SLF001
