"""How good is an explanation?

- against ground truth: `pointing_game`, `relevance_mass`, `relevance_rank`, `intersection_over_union` (`MEASURES`);
- against the network: `pixel_flipping` and `insertion` with `area_under_curve`, `completeness_error`;
- against itself: `continuity`, over neighbours made by `shifts` and `noisy_copies`;
- against chance: `randomized` networks, and the `similarity` of maps;
- `time_over_gradient`, what it costs.

Each returns a number for each image; `mean_and_interval` makes one of them, with its confidence interval, and
`rank_intervals` compares several methods.
"""

from .continuity import continuity, noisy_copies, shifted, shifts
from .fills import linear_imputation
from .intervals import mean_and_interval, rank_intervals
from .localisation import MEASURES, intersection_over_union, pointing_game, relevance_mass, relevance_rank
from .price import completeness_error, time_over_gradient
from .sanity import canny_edges, laplacian_edges, randomized, similarity
from .selectivity import area_under_curve, insertion, pixel_flipping
