"""Every wait on Kafka ends, and says what it waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.errors import KafkaError

from libs.market.errors import UnavailableError


@asynccontextmanager
async def deadline(complaint: str, timeout_s: float) -> AsyncIterator[None]:
    """Bound what is awaited inside.

    Raises:
        UnavailableError: `complaint`, with the cause; Kafka failed or the time ran out.
    """
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise UnavailableError(f"{complaint} within {timeout_s:g} s") from error
    except KafkaError as error:
        raise UnavailableError(f"{complaint}: {error}") from error


def unreachable(bootstrap: str) -> str:
    return (
        f"no Kafka answers at {bootstrap} (start one with `k2 up`, or set K2_KAFKA_BOOTSTRAP"
        " to one that runs)"
    )
