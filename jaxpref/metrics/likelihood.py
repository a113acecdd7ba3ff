"""How likely the preferred response is to a policy, token by token."""

from __future__ import annotations

import chex

from jaxpref.numerics import average_logp


def response_nll(logp, length):
  r"""Negative log-likelihood per token of the preferred (or only) response.

  .. math:: -\frac{1}{|y_0|} \log \pi(y_0 \mid x)

  Its mean over records counts every token once, so long responses weigh more, as in the loss `nll`;
  its exponential is the perplexity. An empty response counts nothing.

  Args:
    logp: f32[B, K], summed log-probability, preferred response first, nats.
    length: f32[B, K], tokens that count.

  Returns:
    `nll`: (nats per token f32[B], tokens f32[B]).

  Example:
    >>> value, tokens = response_nll(jnp.asarray([[-6.0]]), jnp.asarray([[3.0]]))["nll"]
    >>> print(value, tokens)
    [2.] [3.]

  Reference: the loss of supervised fine-tuning on held-out text.
  """
  chex.assert_equal_shape([logp, length])
  return {"nll": (-average_logp(logp, length)[:, 0], length[:, 0])}
