"""Nash mirror descent: self-play against a mixture of policy and reference."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.types import Refused


def nash_md(token_logp, ref_token_logp, mask, label, *, beta: float = 0.1):
  r"""Nash mirror descent: policy gradient of the probability to beat a regularised opponent.

  The response `y` was sampled from the policy; `P` is the probability that it beats a sample of
  the geometric mixture of policy and reference, which need not be scored here.

  .. math::
    \ell = -(P - \tfrac{1}{2}) \log \pi(y)
      + \beta \sum_t \mathrm{sg}\left(\log \frac{\pi(y_t)}{\pi_0(y_t)}\right) \log \pi(y_t)

  Only the gradient means something: it is that of the win probability minus `beta` times the KL
  divergence to the reference. A response without tokens has loss 0.

  Args:
    token_logp: f32[B, 1, T], log-probability of each token under the policy, nats.
    ref_token_logp: f32[B, 1, T], the same under the reference; no gradient flows.
    mask: f32[B, 1, T], 1 on tokens that count.
    label: f32[B], `P` in [0, 1], from a preference model or a judge.
    beta: strength of the pull to the reference, at least 0.

  Returns:
    loss: f32[B], one value per response, not reduced.
    metrics: `nash_md/score` f32[B], `(P - 1/2) log pi(y)`; `nash_md/log_ratio` f32[B], the summed
      log-ratio, nats, whose mean over samples is the KL divergence.

  Raises:
    Refused: not one candidate, or a negative `beta`.

  Example:
    >>> loss, _ = nash_md(jnp.asarray([[[-1.0, -2.0]]]), jnp.asarray([[[-1.5, -1.0]]]),
    ...   jnp.ones((1, 1, 2)), jnp.ones(1))
    >>> print(f"{loss[0]:.2f}")
    1.65

  Reference: Munos et al., "Nash Learning from Human Feedback" (2023). Catalogue 1, section 6,
  `nash_md`.
  """
  if not beta >= 0:
    raise Refused(f"nash_md needs beta >= 0; it is {beta}.")
  arrays = {"token_logp": token_logp, "ref_token_logp": ref_token_logp, "mask": mask}
  call.candidates("nash_md", 1, **arrays)
  chex.assert_equal_shape(list(arrays.values()))
  chex.assert_shape(label, token_logp.shape[:1])
  counts = mask > 0
  own = jnp.where(counts, token_logp, 0.0)
  ratio = jax.lax.stop_gradient(jnp.where(counts, own - ref_token_logp, 0.0))
  score = (label - 0.5) * own.sum((1, 2))
  loss = beta * (ratio * own).sum((1, 2)) - score
  metrics = {"nash_md/score": score, "nash_md/log_ratio": ratio.sum((1, 2))}
  return loss, jax.lax.stop_gradient(metrics)
