"""All that can be done to K2, by name."""

from __future__ import annotations

from collections.abc import Mapping

from tools.chaos import broker, catalog, kill, lag, memory, venue
from tools.chaos.scale import Scale
from tools.chaos.scenario import Scenario

SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        # More memory than a writer takes under any load: so that its share of it can be seen.
        Scenario("lag", lag.harm, lag.judged, Scale(writer_limit_mib=1_024)),
        # Lag levels as in production: what a pause leaves behind is to show none of them.
        Scenario(
            "memory",
            memory.harm,
            memory.judged,
            Scale(lag=1.0, flush_after_s=10.0, writer_limit_mib=450, writer_buffer_mib=256),
        ),
        Scenario("kill", kill.harm, kill.judged, Scale()),
        Scenario("broker", broker.harm, broker.judged, Scale()),
        Scenario("catalog", catalog.harm, catalog.judged, Scale()),
        Scenario("exchange", venue.harm, venue.judged, Scale()),
    )
}
