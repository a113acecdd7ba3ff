"""Length-desensitised log-probabilities, around any pair objective."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import steady_sum, true_logps
from jaxpref.types import Refused

TOKENS = {"logp": "token_logp", "ref_logp": "ref_token_logp"}


def length_desensitized(base, *, alpha: float = 0.5):
  r"""Tokens beyond the length of the shorter response of a pair weigh less.

  With `n = min(length_0, length_1)`, the base sees of either response

  .. math:: \log \pi'(y) = \sum_{t \le n} \log \pi(y_t) + \alpha \sum_{t > n} \log \pi(y_t)

  in place of the sum, for policy and reference alike; `t` runs over tokens that count. `alpha = 1`
  is the base; at equal lengths alpha does not matter; `alpha = 0` cuts both to the same length.
  Around `dpo` it is LD-DPO. A base that reads `length` sees the true length.

  Args:
    base: a pair objective that reads `logp`, perhaps `ref_logp`.
    alpha: weight of the tail, 0 to 1. The paper tunes it per model.

  Returns:
    The objective; it reads `token_logp`, `ref_token_logp` f32[B, 2, T] and `mask` in place of
    `logp` and `ref_logp`. Rewards are those of the weighted sums, `logps/*` the plain sums.

  Raises:
    Refused: `alpha` outside 0 to 1, a base that reads no `logp`, or not two candidates.

  Example:
    >>> from jaxpref.objectives import dpo
    >>> ld_dpo = length_desensitized(dpo, alpha=0.0)
    >>> call.needs(ld_dpo)
    ('token_logp', 'ref_token_logp', 'mask')
    >>> ref, mask = jnp.zeros((1, 2, 3)), jnp.asarray([[[1.0, 1, 1], [1, 0, 0]]])
    >>> loss, _ = ld_dpo(jnp.asarray([[[-1.0, -5, -5], [-1, 0, 0]]]), ref, mask)
    >>> print(f"{loss[0]:.6f}")   # only the first token of both counts: log 2
    0.693147

  Reference: Liu et al., "Length Desensitization in Direct Preference Optimization" (2024), eq. 8.
  Catalogue 1, section 2, `ld_dpo`.
  """
  if not 0 <= alpha <= 1:
    raise Refused(f"length_desensitized needs alpha from 0 to 1; it is {alpha}.")
  names = tokens_for_sums("length_desensitized", base)

  def objective(inner, arrays):
    call.candidates("length_desensitized", 2, token_logp=arrays["token_logp"])
    counted = arrays["mask"] > 0
    shared = counted.sum(-1).min(1)[:, None, None]
    weight = jnp.where(jnp.cumsum(counted, -1) <= shared, 1.0, alpha)

    def total(name, weight):
      return steady_sum(jnp.where(counted, arrays[name] * weight, 0.0))

    seen = {"logp": total("token_logp", weight)}
    if "ref_token_logp" in arrays:
      seen["ref_logp"] = jax.lax.stop_gradient(total("ref_token_logp", weight))
    loss, metrics = call.feed(inner, arrays | seen)
    return loss, true_logps(metrics, total("token_logp", 1.0))

  return call.wrapped(base, objective, names)


def tokens_for_sums(wrapper: str, base) -> list[str]:
  """What the base reads, with token log-probabilities and the mask for summed log-probabilities.

  Args:
    wrapper: its name, for the message.
    base: an objective.

  Raises:
    Refused: the base reads no `logp`.
  """
  needs = call.needs(base)
  if "logp" not in needs:
    raise Refused(
      f"{wrapper} needs a base that reads logp, such as dpo; {base.__name__} reads "
      f"{', '.join(needs)}."
    )
  return list(dict.fromkeys([TOKENS.get(name, name) for name in needs] + ["mask"]))
