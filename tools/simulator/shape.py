"""The shape of the market, fitted to the recorded sessions.

Recorded: Binance spot, BTCUSDT and ETHUSDT, 2024-08-08T23:54 to 2024-08-09T00:05 UTC, 34,419
trades. An order is a run of trades of one symbol with the same time and side. Statistic (BTCUSDT,
ETHUSDT) and what fits it:

| statistic                                   | recorded     | fitted by          |
|---------------------------------------------|--------------|--------------------|
| trades per order, mean                      | 2.79, 2.93   | FILLS              |
| trades per order, median, p90, p99          | 1, 6-7, 20-22| FILLS              |
| Fano factor of orders in 0.1 s              | 4.3, 5.0     | OFFSPRING, DELAY_NS|
| Fano factor of orders in 1 s                | 11.9, 16.1   | OFFSPRING, DELAY_NS|
| Fano factor of orders in 10 s               | 28.7, 47.2   | OFFSPRING, DELAY_NS|
| time between orders, median                 | 4, 3 ms      | DELAY_NS           |
| side equal to the order before              | 0.70, 0.77   | KEEP_SIDE          |
| next order, same side, at the same price    | 0.76, 0.72   | MOVE               |
| its distance where not, p50, p90            | 0.3, 0.9 bp  | MOVE_SIZE          |
| trades within an order at the price before  | 0.67, 0.74   | WALK               |
| their distance where not, p50, p90          | 0.05, 0.25 bp| WALK_SIZE          |
| notional, p50, p90, p99 (USDT)              | 29, 2760, 14k| NOTIONAL_CENTS     |
| event time minus trade time, p50, p80       | 1.6, 9 ms    | EVENT_DELAY_US     |

Sizes, distances and delays are heavy-tailed, so they are quantile tables rather than a named law.
"""

from __future__ import annotations

from tools.simulator.draws import ONE, Quantiles

# Orders that an order sets off: Poisson with mean 0.8, cumulated.
OFFSPRING = Quantiles.of(
    (0.0, 0),
    (0.449329, 0),
    (0.449330, 1),
    (0.808792, 1),
    (0.808793, 2),
    (0.952577, 2),
    (0.952578, 3),
    (0.990920, 3),
    (0.990921, 4),
    (0.998589, 4),
    (0.998590, 5),
    (0.999816, 5),
    (0.999817, 6),
    (1.0, 6),
)
# Between an order and one it set off.
DELAY_NS = Quantiles.of(
    (0.0, 100_000),
    (0.35, 1_300_000),
    (0.55, 5_000_000),
    (0.70, 25_000_000),
    (0.82, 120_000_000),
    (0.92, 600_000_000),
    (0.98, 2_000_000_000),
    (1.0, 4_000_000_000),
)
# Exponential with mean 1 as 2**16, for the orders that nothing set off.
GAP = Quantiles.of(
    (0.0, 0),
    (0.1, 6_905),
    (0.2, 14_624),
    (0.3, 23_375),
    (0.4, 33_477),
    (0.5, 45_426),
    (0.6, 60_050),
    (0.7, 78_903),
    (0.8, 105_476),
    (0.9, 150_902),
    (0.95, 196_328),
    (0.98, 256_378),
    (0.99, 301_804),
    (0.999, 452_706),
    (0.9999, 603_608),
    (1.0, 1_000_000),
)
FILLS = Quantiles.of(
    (0.0, 1),
    (0.575, 1),
    (0.576, 2),
    (0.71, 2),
    (0.79, 4),
    (0.87, 6),
    (0.90, 7),
    (0.95, 11),
    (0.98, 16),
    (0.99, 21),
    (0.999, 55),
    (0.9999, 300),
    (1.0, 500),
)
KEEP_SIDE = int(0.88 * ONE)

# Distances are in 1e-10 of the price, so 1 bp is 1,000,000.
MOVE = int(0.25 * ONE)
MOVE_SIZE = Quantiles.of(
    (0.0, 2_000),
    (0.17, 100_000),
    (0.5, 300_000),
    (0.79, 550_000),
    (0.96, 1_150_000),
    (0.996, 2_200_000),
    (1.0, 3_200_000),
)
WALK = int(0.29 * ONE)
WALK_SIZE = Quantiles.of(
    (0.0, 1_500),
    (0.25, 7_000),
    (0.5, 45_000),
    (0.75, 150_000),
    (0.9, 260_000),
    (0.99, 600_000),
    (1.0, 2_500_000),
)
NOTIONAL_CENTS = Quantiles.of(
    (0.0, 40),
    (0.01, 100),
    (0.05, 400),
    (0.1, 540),
    (0.2, 546),
    (0.3, 680),
    (0.4, 1_370),
    (0.5, 2_900),
    (0.6, 7_900),
    (0.7, 36_000),
    (0.8, 97_000),
    (0.9, 276_000),
    (0.95, 515_000),
    (0.98, 940_000),
    (0.99, 1_410_000),
    (0.999, 3_700_000),
    (0.9999, 8_600_000),
    (1.0, 30_000_000),
)
EVENT_DELAY_US = Quantiles.of(
    (0.0, 300),
    (0.06, 999),
    (0.58, 1_900),
    (0.70, 3_000),
    (0.80, 9_000),
    (0.9, 15_000),
    (1.0, 40_000),
)
