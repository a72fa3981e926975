"""All that can be done to K2, by name."""

from __future__ import annotations

from collections.abc import Mapping

from tools.chaos import broker, catalog, kill, lag, memory, venue
from tools.chaos.scale import Scale
from tools.chaos.scenario import Scenario

SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "lag",
            "a producer floods until the writer truly falls behind",
            lag.harm,
            lag.judged,
            # More memory than a writer takes under any load: so that its share of it can be seen.
            Scale(writer_limit_mib=1_024),
        ),
        Scenario(
            "memory",
            "a writer truly reaches its memory limit",
            memory.harm,
            memory.judged,
            # What waits for the writer meanwhile is to show no level by lag.
            Scale(lag=10.0, flush_after_s=10.0, writer_limit_mib=450, writer_buffer_mib=256),
        ),
        Scenario("kill", "each service is killed in turn", kill.harm, kill.judged, Scale()),
        Scenario("broker", "Kafka hangs, and is killed", broker.harm, broker.judged, Scale()),
        Scenario(
            "catalog",
            "the Iceberg catalog takes no writes, then answers nobody",
            catalog.harm,
            catalog.judged,
            Scale(),
        ),
        Scenario(
            "exchange",
            "the exchange does everything that an exchange may do wrong",
            venue.harm,
            venue.judged,
            Scale(),
        ),
    )
}
