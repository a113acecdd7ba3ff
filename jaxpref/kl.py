r"""Estimates of the distance to a reference from the tokens that were sampled, in nats per token.

With `d = token_logp - ref_token_logp`: `k1 = d`, `k2 = d^2 / 2`, `k3 = e^{-d} - 1 + d`. `k1` and
`k3` have the mean KL(policy || reference) on the policy's own tokens. As a loss they differ: the
mean gradient of `k1` is 0, that of `k2` is the right one, that of `k3` belongs to the KL the other
way round. `k1_plus` and `k3_plus` have the value of one and the gradient of `k2`;
`ratio_corrected` makes an estimate's gradient right by the token's importance ratio. No gradient
reaches the reference. Clamps kill the gradient beyond them.

Reference: Schulman, "Approximating KL Divergence" (2020); DeepSeek-AI, "DeepSeek-V3.2" (2025);
catalogue 2, section 5.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import k3 as k3_of

INPUT, OUTPUT = 20.0, 10.0  # nats; what verl and NeMo-RL clamp at
INFINITE = float("inf")


def _difference(token_logp, ref_token_logp):
  return token_logp - jax.lax.stop_gradient(ref_token_logp)


def k1(token_logp, ref_token_logp, *, clamp_output: float = INFINITE):
  """The log-ratio itself; its clamped value where `clamp_output` is finite.

  >>> print(k1(jnp.asarray([-1.0]), jnp.asarray([-3.0])))
  [2.]
  """
  return jnp.clip(_difference(token_logp, ref_token_logp), -clamp_output, clamp_output)


def absolute(token_logp, ref_token_logp, *, clamp_output: float = INFINITE):
  """Size of the log-ratio; gradient 0 where it is 0.

  >>> print(absolute(jnp.asarray([-3.0]), jnp.asarray([-1.0])))
  [2.]
  """
  off = _difference(token_logp, ref_token_logp)
  return jnp.minimum(jax.lax.stop_gradient(jnp.sign(off)) * off, clamp_output)


def k2(token_logp, ref_token_logp, *, clamp_output: float = INFINITE):
  """Half the squared log-ratio.

  >>> print(k2(jnp.asarray([-1.0]), jnp.asarray([-3.0])))
  [2.]
  """
  return jnp.minimum(0.5 * _difference(token_logp, ref_token_logp) ** 2, clamp_output)


def k3(token_logp, ref_token_logp, *, clamp_input: float = INPUT, clamp_output: float = OUTPUT):
  """`e^{-d} - 1 + d`, never negative; the log-ratio and the value are clamped.

  Args:
    token_logp: f32[...], nats.
    ref_token_logp: f32[...], nats.
    clamp_input: `-d` is clamped to plus and minus this, nats; above 88 float32 overflows.
    clamp_output: the value is clamped to this, nats.

  >>> print(f"{k3(-1.0, -3.0):.4f}")
  1.1353
  """
  negative = jnp.clip(-_difference(token_logp, ref_token_logp), -clamp_input, clamp_input)
  return jnp.minimum(k3_of(negative), clamp_output)


def k1_plus(token_logp, ref_token_logp):
  """Value of `k1`, gradient of `k2`.

  >>> print(jax.grad(lambda x: k1_plus(x, -3.0))(-1.0))
  2.0
  """
  return _straight(k1(token_logp, ref_token_logp), token_logp, ref_token_logp)


def k3_plus(
  token_logp, ref_token_logp, *, clamp_input: float = INPUT, clamp_output: float = OUTPUT
):
  """Value of `k3`, gradient of `k2`; arguments as in `k3`.

  >>> print(jax.grad(lambda x: k3_plus(x, -3.0))(-1.0))
  2.0
  """
  value = k3(token_logp, ref_token_logp, clamp_input=clamp_input, clamp_output=clamp_output)
  return _straight(value, token_logp, ref_token_logp)


@jax.custom_jvp
def _straight(value, token_logp, ref_token_logp):
  """`value`, whose derivative is that of `k2`: exact in value, unlike adding and subtracting."""
  del token_logp, ref_token_logp
  return value


@_straight.defjvp
def _straight_jvp(primals, tangents):
  value, token_logp, ref_token_logp = primals
  return value, (token_logp - ref_token_logp) * tangents[1]


def ratio_corrected(estimate, token_logp, old_token_logp, *, clamp_input: float = INPUT):
  """An estimate times the differentiable importance ratio of its token.

  `ratio * k3` has the gradient of KL(policy || reference) in the mean. Use the ratio of tokens,
  also where the loss has one per sequence.

  Args:
    estimate: f32[...], from one of the functions here, with its gradient.
    token_logp: f32[...], nats.
    old_token_logp: f32[...], under the policy that sampled, nats; no gradient flows.
    clamp_input: the log-ratio is clamped to plus and minus this, nats.

  >>> x = jnp.asarray([-1.0])
  >>> print(ratio_corrected(k1(x, x - 2.0), x, x - jnp.log(2.0)))
  [4.]
  """
  log_ratio = _difference(token_logp, old_token_logp)
  return jnp.exp(jnp.clip(log_ratio, -clamp_input, clamp_input)) * estimate


KINDS = {
  "k1": k1,
  "k2": k2,
  "k3": k3,
  "absolute": absolute,
  "k1_plus": k1_plus,
  "k3_plus": k3_plus,
}


def estimate(token_logp, ref_token_logp, *, kind: str = "k3"):
  """The estimate of a name, with its default clamps.

  Args:
    token_logp: f32[...], nats.
    ref_token_logp: f32[...], nats.
    kind: one of `KINDS`.

  Raises:
    Refused: no such kind.

  >>> print(estimate(jnp.asarray([-1.0]), jnp.asarray([-3.0]), kind="k1"))
  [2.]
  """
  call.one_of("kl.estimate", tuple(KINDS), kind=kind)
  return KINDS[kind](token_logp, ref_token_logp)
