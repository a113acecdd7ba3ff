"""Supervised fine-tuning: on the preferred response, on all of them, and with weights."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call


def nll(token_logp, mask):
  r"""Negative log-likelihood of the tokens of the preferred response.

  With the preferred (or only) response at index 0 and tokens `t` that count

  .. math:: \ell_t = -\log \pi(y_t \mid x, y_{<t})

  Tokens that do not count have loss 0 and weight 0, whatever their log-probability. By default the
  loop takes the mean over all counted tokens of the batch. An empty response adds nothing.

  Args:
    token_logp: f32[B, K, T], log-probability of each token that counts, nats.
    mask: f32[B, K, T], 1 on response tokens that count.

  Returns:
    loss: f32[B, 1, T], nats, of candidate 0 only; not reduced.
    metrics: `nll` f32[B, 1, T], the same without gradient.

  Example:
    >>> token_logp = jnp.asarray([[[-0.5, -9.0], [-2.0, -2.0]]])
    >>> loss, _ = nll(token_logp, jnp.asarray([[[1.0, 0.0], [1.0, 1.0]]]))
    >>> print(loss)
    [[[0.5 0. ]]]

  Reference: the maximum-likelihood objective of supervised fine-tuning, e.g. Ouyang et al.,
  "Training language models to follow instructions with human feedback" (2022), section 3.5.
  Catalogue 1, section 2, `sft`.
  """
  chex.assert_equal_shape([token_logp, mask])
  chex.assert_rank(token_logp, 3)
  loss = jnp.where(mask[:, :1] > 0, -token_logp[:, :1], 0.0)
  return loss, {"nll": jax.lax.stop_gradient(loss)}


def sequence_nll(logp):
  r"""Negative log-likelihood of the preferred response as a whole.

  With the preferred (or only) response at index 0

  .. math:: \ell = -\log \pi(y \mid x) = -\sum_t \log \pi(y_t \mid x, y_{<t})

  The loop takes the mean over examples, so long responses weigh more than in `nll`. An empty
  response has loss 0.

  Args:
    logp: f32[B, K], summed log-probability of each response under the policy, nats.

  Returns:
    loss: f32[B], nats, of candidate 0 only; not reduced.
    metrics: `sequence_nll` f32[B], the same without gradient.

  Example:
    >>> loss, _ = sequence_nll(jnp.asarray([[-10.0, -12.0]]))
    >>> print(loss)
    [10.]

  Reference: the regularisation term of Zhao et al., "SLiC-HF: Sequence Likelihood Calibration with
  Human Feedback" (2023), eq. 1. Catalogue 1, section 3, `slic_hf`.
  """
  chex.assert_rank(logp, 2)
  loss = -logp[:, 0]
  return loss, {"sequence_nll": jax.lax.stop_gradient(loss)}


def nll_each(token_logp, mask):
  r"""Negative log-likelihood of the tokens of every response, preferred or not.

  .. math:: \ell_{kt} = -\log \pi(y_{kt} \mid x, y_{k,<t})

  For samples of a teacher or filtered samples of one's own (rejection sampling).

  Args:
    token_logp: f32[B, K, T], log-probability of each token that counts, nats.
    mask: f32[B, K, T], 1 on response tokens that count.

  Returns:
    loss: f32[B, K, T], nats, 0 where the mask is 0; not reduced.
    metrics: `nll` f32[B, K, T], the same without gradient.

  Example:
    >>> print(nll_each(jnp.full((1, 2, 1), -0.5), jnp.ones((1, 2, 1)))[0])
    [[[0.5]
      [0.5]]]

  Reference: Zelikman et al., "STaR: Bootstrapping Reasoning With Reasoning" (2022), its training on
  samples; Kim and Rush, "Sequence-Level Knowledge Distillation" (2016). Catalogue 1, section 8,
  `seq_kd`.
  """
  chex.assert_equal_shape([token_logp, mask])
  chex.assert_rank(token_logp, 3)
  loss = jnp.where(mask > 0, -token_logp, 0.0)
  return loss, {"nll": jax.lax.stop_gradient(loss)}


def nll_weighted(token_logp, mask, relevance):
  r"""Negative log-likelihood of every response, weighted by its grade.

  With `g_k` the grade of response `k`

  .. math:: \ell_{kt} = -g_k \log \pi(y_{kt} \mid x, y_{k,<t})

  Grades of 1 and 0 keep the good responses; negative ones push responses away without bound.

  Args:
    token_logp: f32[B, K, T], log-probability of each token that counts, nats.
    mask: f32[B, K, T], 1 on response tokens that count.
    relevance: f32[B, K], `g`; no gradient.

  Returns:
    loss: f32[B, K, T], 0 where the mask is 0; not reduced.
    metrics: `nll` f32[B, K, T] without the weight.

  Example:
    >>> one = jnp.ones((1, 1, 1))
    >>> print(nll_weighted(-0.5 * one, one, jnp.full((1, 1), 2.0))[0])
    [[[1.]]]

  Reference: Peters and Schaal, "Reinforcement Learning by Reward-Weighted Regression for
  Operational Space Control" (2007).
  """
  chex.assert_equal_shape([token_logp, mask])
  chex.assert_shape(relevance, token_logp.shape[:2])
  nll = jnp.where(mask > 0, -token_logp, 0.0)
  return jax.lax.stop_gradient(relevance)[..., None] * nll, {"nll": jax.lax.stop_gradient(nll)}


def dft(token_logp, mask):
  r"""Dynamic fine-tuning: each token's likelihood weighted by its own probability.

  With `sg` without gradient

  .. math:: \ell_t = -sg(\pi(y_t)) \log \pi(y_t)

  The gradient is that of `-pi(y_t)`: tokens that the model holds for unlikely pull less than with
  `nll`, whose gradient grows as `1 / pi`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token that counts, nats.
    mask: f32[B, K, T], 1 on response tokens that count.

  Returns:
    loss: f32[B, 1, T], of candidate 0 only; not reduced.
    metrics: `nll` f32[B, 1, T], the plain negative log-likelihood, nats.

  Example:
    >>> loss, _ = dft(jnp.log(jnp.full((1, 1, 1), 0.5)), jnp.ones((1, 1, 1)))
    >>> print(f"{loss[0, 0, 0]:.6f}")
    0.346574

  Reference: Wu et al., "On the Generalization of SFT: A Reinforcement Learning Perspective with
  Reward Rectification" (2025). Catalogue 1, section 8, `dft`.
  """
  loss, metrics = nll(token_logp, mask)
  chance = jnp.exp(jnp.minimum(-loss, 0.0))
  return jax.lax.stop_gradient(chance) * loss, metrics


def asft(token_logp, logits, ref_logits, mask, *, alpha: float = 0.1):
  r"""Anchored fine-tuning: `dft` held near the reference by a divergence over the vocabulary.

  .. math:: \ell_t = -sg(\pi(y_t)) \log \pi(y_t) + \alpha\, KL(\pi_{ref} \,\|\, \pi)_t

  At `alpha = 0` it is `dft`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token that counts, nats.
    logits: f32[B, K, T, V], of the policy, at the place of the token that they predict.
    ref_logits: f32[B, K, T, V], of the reference; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    alpha: weight of the divergence, at least 0.

  Returns:
    loss: f32[B, 1, T], of candidate 0 only; not reduced.
    metrics: `nll` f32[B, 1, T] and `kl/ref` f32[B, 1, T], nats.

  Raises:
    Refused: a negative `alpha`.

  Example:
    >>> half = jnp.log(jnp.full((1, 1, 1), 0.5))
    >>> logits, ref = jnp.zeros((1, 1, 1, 2)), jnp.log(jnp.asarray([[[[0.9, 0.1]]]]))
    >>> loss, _ = asft(half, logits, ref, jnp.ones((1, 1, 1)))
    >>> print(f"{loss[0, 0, 0]:.6f}")
    0.383380

  Reference: Zhu et al., "Anchored Supervised Fine-Tuning" (2025). Catalogue 1, section 8, `asft`.
  """
  call.at_least("asft", 0, alpha=alpha)
  chex.assert_equal_shape([logits, ref_logits])
  loss, metrics = dft(token_logp, mask)
  ref, own = (jax.nn.log_softmax(x[:, :1], -1) for x in (ref_logits, logits))
  ref = jax.lax.stop_gradient(ref)
  kl = jnp.where(mask[:, :1] > 0, (jnp.exp(ref) * (ref - own)).sum(-1), 0.0)
  return loss + alpha * kl, metrics | {"kl/ref": jax.lax.stop_gradient(kl)}
