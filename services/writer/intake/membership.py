"""A writer's name in its group: whose it is, where `K2_WRITER_GROUP_INSTANCE` gives one.

To one whose name another has taken Kafka says what it says to one whose session ran out: that it
does not know this member. Who then joins again takes the name back, and so the two would go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog
from aiokafka import AIOKafkaConsumer

from libs.kafka.admin import members_of
from libs.market.errors import ConfigError, UnavailableError
from libs.runtime.backoff import Backoff
from services.writer.config import WriterConfig
from services.writer.intake.group import join
from services.writer.intake.rebalance import Rebalance

log = structlog.get_logger()

LOOK_TIMEOUT_S = 5.0
BACKOFF = Backoff(first_s=0.2, most_s=5.0)


class NameTakenError(ConfigError):
    """Another writer has joined the group under this one's name."""

    reason = "NAME_TAKEN"


class Membership:
    """Joins the group, and ends where its name is another's by now."""

    def __init__(self, config: WriterConfig) -> None:
        self._config = config
        self._taken: NameTakenError | None = None

    async def join(self, rebalance: Rebalance) -> AIOKafkaConsumer:
        """Join the group, without waiting for an assignment. Raises UnavailableError."""
        consumer = await join(self._config, rebalance)
        if self._config.group_instance:
            rebalance.when_expelled(self._expelled)
        return consumer

    def ready(self) -> bool:
        """Say that nothing is wrong with the name. Raises NameTakenError: this writer must end."""
        if self._taken is not None:
            raise self._taken
        return True

    async def _expelled(self, member_id: str) -> None:
        """Look who has the name, until Kafka tells, before this member would take it again."""
        if has_namesake(await self._members(), self._config.group_instance, member_id):
            self._taken = taken(self._config)
            # aiokafka's own task would join now: it ends with this.
            raise asyncio.CancelledError

    async def _members(self) -> tuple[str, ...]:
        config, failures = self._config, 0
        while True:
            try:
                return await members_of(
                    config.kafka_bootstrap, config.group, timeout_s=LOOK_TIMEOUT_S
                )
            except UnavailableError as error:
                failures += 1
                log.warning("group_unknown", why=error.message)
                await asyncio.sleep(BACKOFF.wait_s(failures))


def has_namesake(members: Iterable[str], name: str, member_id: str) -> bool:
    """Say whether another has a name: Kafka makes a member's id of it, and of 36 characters more.

    Of one without a name it takes the client id, which looks like no name: see `join`. Of who that
    is the group tells nothing: it keeps the client and host of whoever came first.
    """
    return any(other != member_id and other[:-36] == f"{name}-" for other in members)


def taken(config: WriterConfig) -> NameTakenError:
    name, group = config.group_instance, config.group
    return NameTakenError(
        f"another writer has joined group {group} under the name {name} that this one had: give"
        " each writer a K2_WRITER_GROUP_INSTANCE of its own, and start this one again",
        group=group,
        group_instance=name,
    )
