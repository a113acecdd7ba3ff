"""Supervised fine-tuning on the preferred response, per token or per sequence."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


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
