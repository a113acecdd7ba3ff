"""Statistics of an experiment: models of ratings, their standard errors and tests.

Each function takes arrays of N observations, computes in float64 whatever jax is set to, and gives
numbers back as numpy arrays.
"""

from jaxpref.analysis.brant import brant
from jaxpref.analysis.ordinal import likelihood_ratio, odds_ratios, partial_odds

__all__ = ["brant", "likelihood_ratio", "odds_ratios", "partial_odds"]
