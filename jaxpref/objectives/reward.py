"""Losses of reward models: scores of responses against people's choices."""

from __future__ import annotations

import jax

from jaxpref import call
from jaxpref.numerics import pair_rewards
from jaxpref.types import Refused


def bradley_terry(score, *, center: float = 0.0):
  r"""Bradley-Terry: the log-loss of the score margin, with an optional pull towards zero.

  With scores `r_0` (preferred) and `r_1`

  .. math:: \ell = -\log \sigma(r_0 - r_1) + c\,(r_0 + r_1)^2

  It is log 2 at a tie. Without the second term a constant added to both scores changes nothing;
  with it the scores of a pair are drawn to a mean of 0.

  Args:
    score: f32[B, 2], score of each response, preferred first, reward units.
    center: `c`, strength of the pull, at least 0; 0.01 where it is used (Eisenstein et al.).

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with the score as reward.

  Raises:
    Refused: not two candidates, or a negative `center`.

  Example:
    >>> loss, _ = bradley_terry(jnp.asarray([[1.0, 0.2]]))
    >>> print(f"{loss[0]:.6f}")
    0.371101

  Reference: Bradley and Terry, "Rank Analysis of Incomplete Block Designs" (1952); Ouyang et al.,
  "Training language models to follow instructions with human feedback" (2022), eq. 1 with K = 2;
  for `center` Eisenstein et al., "Helping or Herding?" (2023). Catalogue 1, section 7, `rm_bt` and
  `rm_center`.
  """
  if not center >= 0:
    raise Refused(f"bradley_terry needs center >= 0; it is {center}.")
  call.candidates("bradley_terry", 2, score=score)
  margin = score[:, 0] - score[:, 1]
  loss = jax.nn.softplus(-margin) + center * (score[:, 0] + score[:, 1]) ** 2
  return loss, pair_rewards(score)
