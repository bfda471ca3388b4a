"""Published figures of the strict rule set, printed next to ours; see service/STATISTICS.md."""

from __future__ import annotations

from typing import Final

STEADY_ACCURACIES: Final = (0.995, 0.99, 0.985, 0.98, 0.97, 0.96, 0.94, 0.90)
FALSE_REJECT: Final = 0.058  # with 1 % of the traffic outside

# Median hours to the eviction after the first closed one, at 1k, 2.7k, 7k, 19k and from 52k
# requests a day; then the 90th percentile of all.
DELAYS: Final = {0.96: (57, 19, 7, 4, 4), 0.95: (30, 11, 4, 1, 1), 0.90: (4, 2, 1, 0, 0)}
DELAYS_90: Final = {0.96: 32, 0.95: 15, 0.90: 2}

# Hostile tenants and their calls each: the accuracy of all counts, with a cap of 1 % per tenant,
# and the mean over tenants without the highest and lowest fifth.
ATTACKS: Final = {
    (0, 0): (0.928, 0.929, 0.932),
    (1, 10**5): (0.958, 0.930, 0.932),
    (1, 10**6): (0.991, 0.930, 0.932),
    (1, 10**7): (0.999, 0.930, 0.932),
    (20, 10**5): (0.995, 0.943, 0.935),
    (100, 10**5): (0.999, 0.999, 0.946),
    (400, 10**4): (0.998, 0.998, 0.977),
    (1000, 100): (0.958, 0.958, 0.996),
}
