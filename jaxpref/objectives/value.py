"""Value losses of actor-critic methods."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call


def value_mse(value, returns, mask):
  r"""Squared error of the value head.

  .. math:: \ell = \tfrac{1}{2} (V - R)^2

  Published reduction: `token`.

  Args:
    value: f32[B, K, T], predicted return before each token, reward units.
    returns: f32[B, K, T], the target; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: f32[B, K, T], `value/mean` and `value/error`, `V - R`.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> print(value_mse(jnp.asarray([[[1.0, 3.0]]]), one, one)[0])
    [[[0. 2.]]]

  Reference: Schulman et al., "Proximal Policy Optimization Algorithms" (2017), eq. 9. Catalogue 2,
  section 4, `value_clip` without the clip.
  """
  value, returns = _counted(value, returns, mask)
  return 0.5 * jnp.square(value - returns), _report(value, returns)


def value_clip(value, old_value, returns, mask, *, epsilon: float = 0.5):
  r"""Clipped value loss of PPO: the worse of the prediction and its move cut at epsilon.

  .. math:: \ell = \tfrac{1}{2} \max\big((V - R)^2,\;
     (\mathrm{clip}(V, V_{old} - e, V_{old} + e) - R)^2\big)

  Where the value has moved by more than `epsilon` towards the target, the gradient is 0.
  Published reduction: `token`.

  Args:
    value: f32[B, K, T], predicted return before each token, reward units.
    old_value: f32[B, K, T], the same when the batch was sampled; no gradient flows.
    returns: f32[B, K, T], the target; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    epsilon: how far the value may move, reward units, > 0.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: f32[B, K, T], `value/mean`, `value/error` (`V - R`), and `value/clip_frac`, 1 where
      the clipped error is the larger one.

  Raises:
    Refused: `epsilon` not above 0.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> loss, _ = value_clip(jnp.asarray([[[1.0, 3.0]]]), 0 * one, one, one)
    >>> print(loss)
    [[[0.125 2.   ]]]

  Reference: Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage
  Estimation" (2016); the clipped form is that of OpenAI baselines (2017). Catalogue 2, section 4,
  `value_clip`.
  """
  call.positive("value_clip", epsilon=epsilon)
  _, old = _counted(value, old_value, mask)
  value, returns = _counted(value, returns, mask)
  cut = jnp.clip(value, old - epsilon, old + epsilon)
  plain, held = jnp.square(value - returns), jnp.square(cut - returns)
  clipped = jax.lax.stop_gradient((held > plain).astype(jnp.float32))
  return 0.5 * jnp.maximum(plain, held), _report(value, returns) | {"value/clip_frac": clipped}


def _counted(value, other, mask):
  """Both with 0 where no token counts; the second has no gradient."""
  chex.assert_rank(value, 3)
  chex.assert_equal_shape([value, other, mask])
  one = lambda x: jnp.where(mask > 0, x, 0.0)
  return one(value), jax.lax.stop_gradient(one(other))


def _report(value, returns):
  value = jax.lax.stop_gradient(value)
  return {"value/mean": value, "value/error": value - returns}
