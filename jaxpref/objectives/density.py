"""Weights of `bco_udm`: how much likelier a prompt is among the desirable responses' prompts.

A classifier on frozen prompt embeddings tells the prompts of both classes apart; its odds are the
weight. The functions are run once, before training, on a few hundred prompts.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref.numerics import safe_divide


def density_ratio(probability, *, low: float = 0.5, high: float = 10.0):
  r"""Odds of a probability, kept within bounds.

  .. math:: w = \mathrm{clip}(p / (1 - p + 10^{-8}),\ \text{low},\ \text{high})

  Args:
    probability: f32[...], that the prompt is one of a desirable response.
    low: smallest weight.
    high: largest weight.

  Returns:
    f32[...].

  Example:
    >>> print(density_ratio(jnp.asarray([0.5, 0.999, 0.001])))
    [ 1.  10.   0.5]

  Reference: Jung et al., "Binary Classifier Optimization for Large Language Model Alignment"
  (2024). Catalogue 1, section 4, `bco`.
  """
  return jnp.clip(probability / (1.0 - probability + 1e-8), low, high)


def fit_density(features, desirable, *, penalty: float = 1.0, steps: int = 25):
  r"""Logistic regression with equally heavy classes, by Newton's method.

  .. math::
    \min_{w, b}\ \sum_i c_i \log(1 + e^{-y_i (w \cdot x_i + b)}) + \tfrac{1}{2}\,\text{penalty}\,
    |w|^2

  with `y = 1` on desirable, `-1` on undesirable prompts and `c_i = N / (2 N_{class})`. Without
  features that differ the probability is 1/2 whatever the sizes of the classes.

  Args:
    features: f32[N, D], embeddings of prompts.
    desirable: f32[N], 1 for prompts of desirable responses; above 0.5 counts.
    penalty: strength of the pull of the weights (not of the bias) to 0, > 0.
    steps: Newton steps; 25 are enough unless `penalty` is tiny.

  Returns:
    f32[D], the weights, and f32[], the bias: a prompt is desirable with probability
    `sigmoid(features @ weights + bias)`.

  Example:
    >>> weights, bias = fit_density(jnp.asarray([[-1.0], [1.0]]), jnp.asarray([0.0, 1.0]))
    >>> print(f"{weights[0]:.4f} {abs(bias):.4f}")
    0.6748 0.0000

  Reference: Cox, "The Regression Analysis of Binary Sequences" (1958). Catalogue 1, section 4,
  `bco`.
  """
  chex.assert_rank(features, 2)
  chex.assert_shape(desirable, features.shape[:1])
  good = (desirable > 0.5).astype(jnp.float32)
  share = jnp.where(good > 0, good.mean(), 1.0 - good.mean())
  heavy = safe_divide(0.5, share)
  x = jnp.concatenate([features.astype(jnp.float32), jnp.ones((len(features), 1))], 1)
  pull = jnp.full(x.shape[1], penalty).at[-1].set(1e-6)  # the bias is only kept finite

  def newton(_, w):
    p = jax.nn.sigmoid(x @ w)
    slope = x.T @ (heavy * (p - good)) + pull * w
    bend = (x.T * (heavy * p * (1.0 - p))) @ x + jnp.diag(pull)
    return w - jnp.linalg.solve(bend, slope)

  w = jax.lax.fori_loop(0, steps, newton, jnp.zeros(x.shape[1]))
  return w[:-1], w[-1]
