"""All that can be done to K2, by name."""

from __future__ import annotations

from collections.abc import Mapping

from tools.chaos import lag
from tools.chaos.scale import Scale
from tools.chaos.scenario import Scenario

LAG = Scenario("lag", lag.harm, lag.judged, Scale())
SCENARIOS: Mapping[str, Scenario] = {scenario.name: scenario for scenario in (LAG,)}
