"""Kafka by another way: connections to K2_TEST_KAFKA go to K2_TEST_KAFKA_VIA.

Python loads this at start where its folder is on PYTHONPATH. A broker tells its clients its own
address, so a proxy before it must stand where the connections are made.
"""

from __future__ import annotations

import os
from typing import Any

from aiokafka.conn import AIOKafkaConnection

DIRECT = int(os.environ["K2_TEST_KAFKA"].rpartition(":")[2])
VIA = int(os.environ["K2_TEST_KAFKA_VIA"].rpartition(":")[2])
_init = AIOKafkaConnection.__init__


def rerouted(self: Any, host: str, port: int, *args: Any, **options: Any) -> None:
    _init(self, host, VIA if port == DIRECT else port, *args, **options)


AIOKafkaConnection.__init__ = rerouted
