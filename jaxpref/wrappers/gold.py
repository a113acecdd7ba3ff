"""A pair objective on the last two of three responses, the first of which is a gold one."""

from __future__ import annotations

import chex

from jaxpref import call, vocabulary


def without_gold(base):
  r"""Leaves out the first of three responses: triple preference optimisation's pair part.

  Of the responses gold, preferred, other (best first, as everywhere), the base sees

  .. math:: (y_0, y_1) \leftarrow (y_1, y_2)

  in every array that it reads. The gold response is for another term, such as `nll`, which takes
  the first response.

  Args:
    base: a pair objective with one loss per pair.

  Returns:
    The objective; it reads what the base reads, with three candidates.

  Raises:
    Refused: not three candidates.

  Example:
    >>> from jaxpref.objectives import simpo
    >>> logp, length = jnp.asarray([[-1.0, -4.0, -10.0]]), jnp.asarray([[9.0, 10.0, 20.0]])
    >>> loss, _ = without_gold(simpo)(logp, length)
    >>> print(f"{loss[0]:.6f}")
    0.854355

  Reference: Saeidi et al., "Triple Preference Optimization: Achieving Better Alignment using a
  Single Step Optimization" (2024). Catalogue 1, section 3, `tpo`.
  """

  def objective(inner, arrays):
    listed = {n: x for n, x in arrays.items() if vocabulary.axes(n)[:2] == ("B", "K")}
    call.candidates("without_gold", 3, **listed)
    loss, metrics = call.feed(inner, arrays | {n: x[:, 1:] for n, x in listed.items()})
    chex.assert_rank(loss, 1)
    return loss, metrics

  return call.wrapped(base, objective, call.needs(base))
