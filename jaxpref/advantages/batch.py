"""Advantages whose scale comes from the whole batch; they belong in the stage without gradients."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call, groups, kl
from jaxpref.advantages import group
from jaxpref.advantages import whiten as whitening


def grpo_batch_std(reward, present, *, eps: float = 1e-4, singleton: str = "zero"):
  r"""Group mean as baseline, standard deviation of all rewards of the batch as scale.

  .. math:: A_i = \frac{R_i - \mathrm{mean}_{j \in group} R_j}{\mathrm{std}_{batch} R + \epsilon}

  The standard deviation is the unbiased one. A batch without variance gives 0; absent, unscorable
  and single rollouts as in `grpo`.

  Args:
    reward: f32[B, K], reward of each rollout; nan where there is none.
    present: f32[B, K], 0 for rollouts that are not there.
    eps: added to the standard deviation, reward units.
    singleton: `zero` or `keep` (the raw reward), for a group of one.

  Returns:
    advantage: f32[B, K], no gradient.

  Raises:
    Refused: `singleton` is another word.

  Example:
    >>> print(grpo_batch_std(jnp.asarray([[1.0, 0.0], [0.0, 0.0]]), jnp.ones((2, 2))))
    [[ 0.9998 -0.9998]
     [ 0.      0.    ]]

  Reference: Liu et al., "Part I: Tricks or Traps? A Deep Dive into RL for LLM Reasoning" (2025).
  Catalogue 2, section 2, `grpo_batch_std`.
  """
  call.one_of("grpo_batch_std", groups.SINGLETONS, singleton=singleton)
  x, valid = groups.scorable(reward, present)
  std = groups.centred(x, valid, axis=None)[1]
  off = group.dr_grpo(reward, present, singleton="zero")
  advantage = jnp.where(std > 0, off / jnp.where(std > 0, std + eps, 1.0), 0.0)
  return jax.lax.stop_gradient(groups.alone(advantage, x, valid, singleton))


def gpg(reward, present, *, f_norm: float = 1.0, singleton: str = "zero"):
  r"""Group policy gradient: group mean as baseline, scaled up by how rare rewards are.

  .. math:: A_i = \alpha \frac{R_i - \mathrm{mean}_j R_j}{F}, \quad \alpha = \frac{N}{\#(R \ne 0)}

  with both counts over the whole batch. If all rewards are 0 then so is A. Absent, unscorable and
  single rollouts, and groups without variance, as in `grpo`.

  Args:
    reward: f32[B, K], reward of each rollout; nan where there is none.
    present: f32[B, K], 0 for rollouts that are not there.
    f_norm: `F`, divides all advantages, > 0.
    singleton: `zero` or `keep` (the raw reward, scaled alike), for a group of one.

  Returns:
    advantage: f32[B, K], no gradient.

  Raises:
    Refused: `f_norm` not above 0, or `singleton` another word.

  Example:
    >>> print(gpg(jnp.asarray([[1.0, 0.0, 0.0, 0.0]]), jnp.ones((1, 4))))
    [[ 3. -1. -1. -1.]]

  Reference: Chu et al., "GPG: A Simple and Strong Reinforcement Learning Baseline" (2025).
  Catalogue 2, section 2, `gpg`.
  """
  call.positive("gpg", f_norm=f_norm)
  x, valid = groups.scorable(reward, present)
  rewarded = jnp.maximum(((x != 0) * valid).sum(), 1.0)
  off = group.dr_grpo(reward, present, singleton=singleton)
  return jax.lax.stop_gradient(off * (valid.sum() / rewarded) / f_norm)


def raw(reward, mask, present, *, whiten: str = "none", ddof: int = 0):
  r"""The reward itself on every token, or whitened over the tokens of the batch.

  .. math:: A_{it} = R_i \quad\text{or}\quad \frac{R_i - \mathrm{mean}}{\mathrm{std}}

  with mean and std over all counted tokens of the batch. Absent and unscorable rollouts get 0 and
  do not count.

  Args:
    reward: f32[B, K], reward of each rollout; nan where there is none.
    mask: f32[B, K, T], 1 on tokens that count.
    present: f32[B, K], 0 for rollouts that are not there.
    whiten: `none` or `token`.
    ddof: for `whiten='token'`, 0 divides the variance by the tokens, 1 by one less.

  Returns:
    advantage: f32[B, K, T], no gradient, 0 outside the mask.

  Raises:
    Refused: `whiten` is another word.

  Example:
    >>> print(raw(jnp.asarray([[2.0, 1.0]]), jnp.ones((1, 2, 2)), jnp.ones((1, 2))))
    [[[2. 2.]
      [1. 1.]]]

  Reference: NVIDIA, NeMo-RL (2025). Catalogue 2, section 2, `raw`.
  """
  call.one_of("raw", ("none", "token"), whiten=whiten)
  x, valid = groups.scorable(reward, present)
  counted = mask * valid[..., None]
  advantage = whitening.over_tokens(x, counted)
  if whiten == "token":
    advantage = whitening.tokens(advantage, counted, ddof=ddof)
  return jax.lax.stop_gradient(advantage)


def reinforce_pp_baseline(reward, mask, present, *, ddof: int = 1, singleton: str = "zero"):
  r"""REINFORCE++ with the group's mean as baseline, whitened over the tokens of the batch.

  .. math:: A_{it} = \mathrm{whiten}_{tokens}(R_i - \mathrm{mean}_j R_j)

  Does not change under `R -> a R + b`, `a > 0`. A batch without variance gives 0. Absent and
  unscorable rollouts leave all statistics and get 0; a single one counts as 0 before whitening
  unless `singleton` is `keep`.

  Args:
    reward: f32[B, K], reward of each rollout; nan where there is none.
    mask: f32[B, K, T], 1 on tokens that count.
    present: f32[B, K], 0 for rollouts that are not there.
    ddof: 1 divides the variance by one less than the tokens, 0 by the tokens.
    singleton: `zero` or `keep` (the raw reward), for a group of one.

  Returns:
    advantage: f32[B, K, T], no gradient, 0 outside the mask.

  Raises:
    Refused: `singleton` is another word.

  Example:
    >>> mask = jnp.ones((1, 2, 1))
    >>> print(reinforce_pp_baseline(jnp.asarray([[2.0, 1.0]]), mask, jnp.ones((1, 2)))[..., 0])
    [[ 0.70710677 -0.70710677]]

  Reference: Hu et al., "REINFORCE++" (2025). Catalogue 2, section 2, `reinforce_pp_baseline`.
  """
  _, valid = groups.scorable(reward, present)
  counted = mask * valid[..., None]
  off = group.dr_grpo(reward, present, singleton=singleton)
  tokens = whitening.over_tokens(off, counted)
  return jax.lax.stop_gradient(whitening.tokens(tokens, counted, ddof=ddof))


def reinforce_pp_baseline_kl(
  reward,
  old_token_logp,
  ref_token_logp,
  mask,
  present,
  *,
  beta: float = 0.05,
  kind: str = "k3",
  centre: str = "group",
  ddof: int = 0,
):
  r"""REINFORCE++ with a baseline and with the distance to the reference taken off each token.

  .. math:: A_{it} = \mathrm{whiten}_{tokens}(R_i - b_i - \beta\, KL_{it})

  The baseline `b` is the group's mean, or 0 with `centre='none'`. Rollouts as in
  `reinforce_pp_baseline`; a single one has advantage 0 before the distance.

  Args:
    reward: f32[B, K], reward of each rollout; nan where there is none.
    old_token_logp: f32[B, K, T], under the policy that the batch came to, nats.
    ref_token_logp: f32[B, K, T], under the reference, nats.
    mask: f32[B, K, T], 1 on tokens that count.
    present: f32[B, K], 0 for rollouts that are not there.
    beta: reward units per nat of distance.
    kind: estimate of the distance: `k1`, `k2`, `k3` or `absolute`.
    centre: `group` or `none`.
    ddof: 0 divides the variance by the tokens, 1 by one less.

  Returns:
    advantage: f32[B, K, T], no gradient, 0 outside the mask.

  Raises:
    Refused: `kind` or `centre` is another word.

  Example:
    >>> one = jnp.ones((1, 2, 1))
    >>> print(reinforce_pp_baseline_kl(
    ...   jnp.asarray([[2.0, 1.0]]), -one, -one, one, jnp.ones((1, 2)))[..., 0])
    [[ 1. -1.]]

  Reference: Hu et al., "REINFORCE++" (2025). Catalogue 2, section 2, `reinforce_pp_baseline`.
  """
  call.one_of("reinforce_pp_baseline_kl", ("group", "none"), centre=centre)
  x, valid = groups.scorable(reward, present)
  counted = mask * valid[..., None]
  sequence = x if centre == "none" else group.dr_grpo(reward, present)
  distance = kl.estimate(old_token_logp, ref_token_logp, kind=kind)
  tokens = whitening.over_tokens(sequence, counted) - beta * distance
  return jax.lax.stop_gradient(whitening.tokens(tokens, counted, ddof=ddof))


WITHIN = {"grpo": group.grpo, "dr_grpo": group.dr_grpo, "grpo_loo": group.grpo_loo}


def gdpo(
  reward_parts,
  part_weight,
  mask,
  present,
  *,
  within: str = "grpo",
  whiten: str = "token",
  eps: float = 1e-6,
  whiten_eps: float = 1e-8,
  singleton: str = "zero",
):
  r"""Several rewards, each standardised in its group by itself, summed and whitened.

  .. math::
    A_i = \mathrm{whiten}\Big(\sum_m w_m \frac{R_{im} - \mathrm{mean}_j R_{jm}}
                                               {\mathrm{std}_j R_{jm} + \epsilon}\Big)

  Whitening over tokens lets long answers weigh more; libraries differ. A part that is nan counts
  as 0 in the sum; a rollout whose parts are all nan is unscorable. With one reward this is
  whitened `grpo`.

  Args:
    reward_parts: f32[B, K, M], rewards by kind; nan where there is none.
    part_weight: f32[B, M], weight of each kind.
    mask: f32[B, K, T], 1 on tokens that count.
    present: f32[B, K], 0 for rollouts that are not there.
    within: what each reward goes through: `grpo`, `dr_grpo` or `grpo_loo`.
    whiten: `token`, `sequence` or `none`.
    eps: added to the group's standard deviation, reward units.
    whiten_eps: added to the tokens' variance, or to the sequences' standard deviation.
    singleton: `zero` or `keep` (the raw reward), for a group of one.

  Returns:
    advantage: f32[B, K, T], no gradient, 0 outside the mask.

  Raises:
    Refused: `within`, `whiten` or `singleton` is another word.

  Example:
    >>> parts = jnp.asarray([[[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]])
    >>> print(gdpo(parts, jnp.ones((1, 2)), jnp.ones((1, 3, 1)), jnp.ones((1, 3)))[0, :, 0])
    [ 0.57735026 -1.1547005   0.57735026]

  Reference: Liu et al., "GDPO: Group reward-Decoupled Normalization Policy Optimization" (2026).
  Catalogue 2, section 2, `gdpo`.
  """
  call.one_of("gdpo", tuple(WITHIN), within=within)
  call.one_of("gdpo", ("token", "sequence", "none"), whiten=whiten)
  chex.assert_rank([reward_parts, part_weight], [3, 2])
  scale = {} if within == "dr_grpo" else {"eps": eps}
  one = lambda r: WITHIN[within](r, present, singleton=singleton, **scale)
  parts = jax.vmap(one, in_axes=2, out_axes=2)(reward_parts)
  total = (parts * part_weight[:, None, :]).sum(-1)
  valid = (jnp.isfinite(reward_parts).any(-1) & (present > 0)).astype(jnp.float32)
  counted = mask * valid[..., None]
  if whiten == "sequence":
    total = whitening.sequences(total, valid, eps=whiten_eps)
  advantage = whitening.over_tokens(total, counted)
  if whiten == "token":
    advantage = whitening.tokens(advantage, counted, small=whiten_eps)
  return jax.lax.stop_gradient(advantage)
