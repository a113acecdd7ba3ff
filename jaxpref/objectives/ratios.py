"""Log-ratios of a pair, from which most pair objectives start."""

from __future__ import annotations

import chex
import jax

from jaxpref import call


def log_ratios(name, logp, ref_logp):
  """The log-ratios `a` (preferred) and `b`, side by side.

  Args:
    name: the objective, for the message.
    logp: f32[B, 2], summed log-probability under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.

  Returns:
    f32[B, 2], nats.

  Raises:
    Refused: not two candidates.

  >>> print(log_ratios("dpo", jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])))
  [[ 1.  -0.5]]
  """
  call.candidates(name, 2, logp=logp, ref_logp=ref_logp)
  chex.assert_equal_shape([logp, ref_logp])
  return logp - jax.lax.stop_gradient(ref_logp)
