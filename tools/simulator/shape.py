"""The shape of the market, fitted to the recorded sessions.

Recorded: Binance spot, BTCUSDT and ETHUSDT, 2024-08-08T23:54 to 2024-08-09T00:05 UTC, 34,419
trades. An order is a run of trades of one symbol with the same time and side. What was measured
there, what generated sessions give at the same rate, and what is fitted to it:

| statistic                                | BTCUSDT, ETHUSDT | generated  | fitted by            |
|------------------------------------------|------------------|------------|----------------------|
| trades per order, mean                   | 2.79, 2.93       | 2.9, 2.9   | FILLS                |
| trades per order, p99                    | 22, 20           | 20, 20     | FILLS                |
| time between orders, median, ms          | 23, 17           | 11, 15     | DELAY_NS             |
| Fano factor of orders in 0.1 s           | 4.3, 5.0         | 4.7, 4.6   | OFFSPRING, DELAY_NS  |
| Fano factor of orders in 1 s             | 11.9, 16.1       | 11.7, 10.8 | OFFSPRING, DELAY_NS  |
| Fano factor of orders in 10 s            | 28.7, 47.2       | 26, 25     | OFFSPRING, DELAY_NS  |
| side equal to that of the order before   | 0.70, 0.77       | 0.71, 0.73 | KEEP_SIDE            |
| same price as the trade before, in order | 0.67, 0.74       | 0.71, 0.71 | WALK                 |
| its distance where not, p50, bp          | 0.02, 0.07       | 0.05       | WALK_SIZE            |
| same price as the same-side order before | 0.69, 0.62       | 0.68, 0.69 | MOVE                 |
| its distance where not, p50, bp          | 0.3, 0.4         | 0.4        | MOVE_SIZE            |
| return in a second, std, bp              | 1.25, 1.25       | 1.5, 1.0   | MOVE, MOVE_SIZE      |
| notional, p50, USDT                      | 41, 21           | 28, 28     | NOTIONAL_CENTS       |
| notional, p99, USDT                      | 19994, 9959      | 14800, 14100 | NOTIONAL_CENTS     |
| event time minus trade time, p50, ms     | 1.6, 1.6         | 1.6        | EVENT_DELAY_US       |

Sizes, distances and delays are heavy-tailed, so they are quantile tables rather than a named law.
"""

from __future__ import annotations

from tools.simulator.draws import ONE, Quantiles

# Orders that an order sets off: Poisson with mean 0.84, cumulated.
OFFSPRING = Quantiles.of(
    (0.0, 0),
    (0.431711, 0),
    (0.431712, 1),
    (0.794348, 1),
    (0.794349, 2),
    (0.946655, 2),
    (0.946656, 3),
    (0.989301, 3),
    (0.989302, 4),
    (0.998257, 4),
    (0.998258, 5),
    (0.999762, 5),
    (0.999763, 6),
    (1.0, 6),
)
# Between an order and one it set off.
DELAY_NS = Quantiles.of(
    (0.0, 100_000),
    (0.30, 1_500_000),
    (0.50, 6_000_000),
    (0.66, 30_000_000),
    (0.80, 150_000_000),
    (0.90, 700_000_000),
    (0.93, 1_500_000_000),
    (0.95, 3_500_000_000),
    (0.97, 5_500_000_000),
    (1.0, 7_500_000_000),
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
    (0.65, 1),
    (0.651, 2),
    (0.77, 2),
    (0.84, 4),
    (0.90, 6),
    (0.925, 7),
    (0.962, 11),
    (0.985, 16),
    (0.993, 21),
    (0.999, 50),
    (0.9999, 250),
    (1.0, 500),
)
KEEP_SIDE = int(0.92 * ONE)

# Distances are in 1e-10 of the price, so 1 bp is 1,000,000.
MOVE = int(0.30 * ONE)
MOVE_SIZE = Quantiles.of(
    (0.0, 2_500),
    (0.17, 125_000),
    (0.5, 375_000),
    (0.79, 700_000),
    (0.96, 1_400_000),
    (0.996, 2_700_000),
    (1.0, 3_900_000),
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
