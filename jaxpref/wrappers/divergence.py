"""Other divergences than reverse KL between policy and reference, around any margin objective."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import true_logps
from jaxpref.types import Refused

DIVERGENCES = ("reverse_kl", "forward_kl", "js", "alpha")
# objectives that are no function of the difference of the two log-ratios alone
APART = (
  *("nca_pair", "nca_biased", "bco_pair", "bco_pair_shifted", "bco", "sppo_hard", "sppo", "aot"),
  *("aot_unpaired", "apo_zero", "apo_down", "apo_zero_unpaired", "kto", "kto_pair", "dpop"),
  *("cal_dpo", "wpo_length", "alpha_dpo", "inpo", "rebel", "tdpo1", "tdpo2"),
)


def f_divergence(base, *, divergence: str = "js", alpha: float = 0.5, cap: float = 80.0):
  r"""The objective under another f-divergence: its log-ratios are replaced by `f'(ratio)`.

  With the log-ratio `u = logp - ref_logp` of each response, the base sees in place of `u`

  .. math::
    f'(e^u) = \begin{cases} u & \text{reverse KL} \\ 1 - e^{-u} & \text{forward KL} \\
      \log 2 + \log \sigma(u) & \text{Jensen-Shannon} \\
      (e^{(\alpha-1) u} - 1) / (\alpha - 1) & \text{alpha} \end{cases}

  `alpha = 1` is reverse KL, `alpha = 0` forward KL; with the older parameter `a` of TRL up to 0.24
  it is `alpha = 1 - a`. Exponents stop at `cap`, where the gradient is 0. The rewards that the base
  reports are those of the divergence, `beta f'`; `logps/*` stay those of the policy.

  Args:
    base: an objective of `logp` and `ref_logp` that looks at the difference of the log-ratios:
      `dpo`, `cdpo`, `ipo`, `hinge` and their like.
    divergence: reverse_kl, forward_kl, js or alpha.
    alpha: order of the alpha-divergence, any number; read by `alpha` only.
    cap: largest exponent, nats. A base that squares the margin needs less than 44 to stay finite.

  Returns:
    The objective; it reads what the base reads.

  Raises:
    Refused: an unknown divergence, a base that reads no `ref_logp`, or one that looks at the two
      log-ratios apart.

  Example:
    >>> from jaxpref.objectives import dpo
    >>> js = f_divergence(dpo, divergence="js")
    >>> loss, _ = js(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]))
    >>> print(f"{loss[0]:.6f}")
    0.660652

  Reference: Wang et al., "Beyond Reverse KL: Generalizing Direct Preference Optimization with
  Diverse Divergence Constraints" (2023), Table 1. Catalogue 1, section 2, f-divergences.
  """
  if divergence not in DIVERGENCES:
    raise Refused(
      f"f_divergence has no divergence {divergence!r}. {call.nearest(divergence, DIVERGENCES)}"
      f"It has: {', '.join(DIVERGENCES)}."
    )
  _check(base)
  call.positive("f_divergence", cap=cap)

  def objective(inner, arrays):
    logp = arrays["logp"]
    seen = _slope(logp - jax.lax.stop_gradient(arrays["ref_logp"]), divergence, alpha, cap)
    given = arrays | {"logp": seen, "ref_logp": jnp.zeros_like(seen)}
    loss, metrics = call.feed(inner, given)
    return loss, true_logps(metrics, logp)

  return call.wrapped(base, objective, call.needs(base))


def _check(base):
  if not {"logp", "ref_logp"} <= set(call.needs(base)):
    raise Refused(
      f"f_divergence needs a base that reads logp and ref_logp, such as dpo; {base.__name__} reads "
      f"{', '.join(call.needs(base))}."
    )
  if base.__name__ in APART:
    raise Refused(
      f"f_divergence does not go around {base.__name__}, which looks at the log-ratios of the two "
      "responses apart; it goes around objectives of their difference, such as dpo, hinge or ipo."
    )
  if base.__name__ == "dpo" and call.knobs(base)["gamma"] != 1:
    raise Refused(f"f_divergence needs dpo with gamma=1; it is {call.knobs(base)['gamma']}.")


def _slope(ratio, divergence, alpha, cap):
  """`f'(exp(ratio))`."""
  order = {"reverse_kl": 1.0, "forward_kl": 0.0}.get(divergence, alpha)
  if divergence == "js":
    return jnp.log(2.0) - jax.nn.softplus(-ratio)
  if order == 1:
    return ratio
  return jnp.expm1(jnp.minimum((order - 1) * ratio, cap)) / (order - 1)
