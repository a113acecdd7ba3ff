"""Coefficients that follow a measurement: pure updates, to be carried from step to step."""

from __future__ import annotations

import jax.numpy as jnp

from jaxpref import call


def next_kl_coefficient(
  coefficient, kl, count, *, target: float = 6.0, horizon: float = 10_000.0, clip: float = 0.2
):
  r"""Proportional controller of the KL coefficient.

  .. math:: \beta \leftarrow \beta\,(1 + \mathrm{clip}(kl / target - 1, \pm c)\, n / horizon)

  Args:
    coefficient: f32[], the coefficient now.
    kl: f32[], measured distance, in the units of `target`.
    count: f32[], samples (or steps) that the measurement covers.
    target: wanted distance, > 0.
    horizon: samples over which a full correction works, > 0.
    clip: largest relative error that is acted on.

  Returns:
    f32[], the coefficient of the next step.

  >>> print(f"{next_kl_coefficient(0.2, 12.0, 256.0):.6f}")
  0.201024

  Reference: Ziegler et al., "Fine-Tuning Language Models from Human Preferences" (2019), section
  2.2. Catalogue 2, section 5.
  """
  call.positive("next_kl_coefficient", target=target, horizon=horizon)
  error = jnp.clip(kl / target - 1.0, -clip, clip)
  return coefficient * (1.0 + error * count / horizon)


def next_entropy_coefficient(
  coefficient, entropy, *, target: float = 0.2, step: float = 0.005, highest: float = 1.0
):
  r"""Raises the entropy coefficient while the entropy is at most the target, else lowers it.

  .. math:: c \leftarrow \mathrm{clip}(c \pm \delta, 0, c_{max})

  Args:
    coefficient: f32[], the coefficient now.
    entropy: f32[], measured entropy, nats per token.
    target: wanted entropy, nats per token.
    step: change per update.
    highest: upper bound; the lower one is 0.

  Returns:
    f32[], f32[]: the coefficient to carry, and the one to apply now: 0 while the entropy is above
    the target.

  >>> print(*(f"{x:.3f}" for x in next_entropy_coefficient(0.01, 0.1)))
  0.015 0.015

  Reference: He et al., "Skywork Open Reasoner 1" (2025). Catalogue 2, section 7.
  """
  low = entropy <= target
  moved = jnp.clip(coefficient + jnp.where(low, step, -step), 0.0, highest)
  return moved, jnp.where(low, moved, 0.0)
