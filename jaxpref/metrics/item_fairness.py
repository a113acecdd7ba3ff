r"""Individual item fairness of recommendations: how evenly a catalogue is exposed.

Everything is a statistic of all lists together: `m` users get lists of `k` different items of a
catalogue of `n`, item `i` stands in `c_i` lists. No relevance is involved. All measures follow from
four sums per item (`Exposure`), which add up over users, so no users x items array is ever made.

A measure has its original form and, as `..._corrected`, the form that gives 0 and 1 to the extreme
recommendations: all users get the same k items; exposure is as even as k m places allow. Large is
fair for Jain, qualification, entropy and satisfaction; small for the others. Where a form is not
defined it is NaN: the entropy while an item is unexposed, a corrected form where one user or k = n
leaves no choice, VoCD with fewer than two exposed items.

Reference of the whole file: Rampisela, Maistro, Ruotsalo, Lioma, "Evaluation Measures of Individual
Item Fairness for Recommender Systems: A Critical Study" (2024). Card: papers/item_fairness.md.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxpref import call
from jaxpref.types import Refused


class Exposure(NamedTuple):
  """What lists give to the items of a catalogue; exposures of different users add up.

  Attributes:
    count: f[n], lists with the item.
    attention: f[n], sum of `1 / log2(place + 1)`.
    persistence: f[n], sum of `patience^(place - 1)`.
    users: f[], lists.
  """

  count: jax.Array
  attention: jax.Array
  persistence: jax.Array
  users: jax.Array


def exposure(items, *, catalogue: int = 1, patience: float = 0.8) -> Exposure:
  """Sums per item over lists; to be jitted with `catalogue` static.

  Items outside of the catalogue are not seen (`evaluate` refuses them).

  Args:
    items: i32[B, K], ids 0..catalogue-1, best place first, different within a list.
    catalogue: `n`, items that could be recommended.
    patience: `gamma`, chance of reading on after a place, in (0, 1).

  Example:
    >>> print(exposure(jnp.asarray([[0, 1], [0, 2]]), catalogue=4).count)
    [2. 1. 1. 0.]
  """
  chex.assert_rank(items, 2)
  dtype = jnp.result_type(float)
  users, top = items.shape
  place = jnp.arange(1, top + 1, dtype=dtype)
  index = jnp.where(items < 0, catalogue, items).ravel()

  def add(weight):
    each = jnp.broadcast_to(weight, (users, top)).ravel()
    return jnp.zeros(catalogue, dtype).at[index].add(each, mode="drop")

  return Exposure(
    add(jnp.ones_like(place)),
    add(1.0 / jnp.log2(place + 1.0)),
    add(jnp.asarray(patience, dtype) ** (place - 1.0)),
    jnp.asarray(users, dtype),
  )


def _ranked_sum(x):
  """`sum_j (2j - n - 1) x_(j)` of values sorted ascending, j from 1; 0 if all are equal."""
  n = x.shape[0]
  return ((2.0 * jnp.arange(1, n + 1, dtype=x.dtype) - n - 1.0) * jnp.sort(x)).sum()


def jain(count, users, top):
  r"""Jain's index `slot^2 / (n sum c^2)` and its corrected form; large is fair.

  Args:
    count: f[n].
    users: f[].
    top: `k`.
  """
  n = count.shape[0]
  slot = users * top
  floor, rest = slot // n, slot % n
  value = slot**2 / (n * (count**2).sum())
  best = (slot**2 / n) / (n * floor**2 + rest * (2.0 * floor + 1.0))
  return value, (value - top / n) / (best - top / n)


def qualification(count, users, top):
  """Share of the catalogue that is exposed at all, and its corrected form; large is fair.

  Args:
    count: f[n].
    users: f[].
    top: `k`.
  """
  n = count.shape[0]
  seen = (count > 0).sum().astype(count.dtype)
  return seen / n, (seen - top) / (jnp.minimum(users * top, n) - top)


def entropy(count, users, top):
  """Entropy of exposure to base n, NaN while an item is unexposed; corrected; large is fair.

  The corrected form sums over exposed items only.

  Args:
    count: f[n].
    users: f[].
    top: `k`.
  """
  n = count.shape[0]
  slot = users * top
  floor, rest = slot // n, slot % n
  base = jnp.log(jnp.asarray(n, count.dtype))
  term = lambda p: -p * jnp.log(jnp.where(p > 0, p, 1.0)) / base
  total = term(count / slot).sum()
  even = (n - rest) * term(floor / slot) + rest * term((floor + 1.0) / slot)
  least = jnp.log(jnp.asarray(top, count.dtype)) / base
  original = jnp.where((count > 0).all(), total, jnp.nan)
  return original, (total - least) / (even - least)


def satisfaction(count, users, top):
  """Share of items with at least the maximin share `slot // n`, and corrected; large is fair.

  While there are fewer places than items that share is 0 and every item has it.

  Args:
    count: f[n].
    users: f[].
    top: `k`.
  """
  n = count.shape[0]
  value = (count >= (users * top) // n).astype(count.dtype).mean()
  return value, (value - top / n) / (1.0 - top / n)


def gini(count, users, top):
  """Gini coefficient of counts, and its corrected form; small is fair.

  Args:
    count: f[n].
    users: f[].
    top: `k`.
  """
  n = count.shape[0]
  slot = users * top
  rest = slot % n
  value = _ranked_sum(count) / (n * slot)
  least = (n - rest) * rest / (n * slot)
  return value, (value - least) / (1.0 - top / n - least)


def gini_attention(attention, users, top):
  """Gini coefficient of exposure that falls with the place, and corrected; small is fair.

  The least value is taken as 0 when there are more places than items, which is not attained.

  Args:
    attention: f[n], sums of `1 / log2(place + 1)`.
    users: f[].
    top: `k`.
  """
  n = attention.shape[0]
  weight = 1.0 / jnp.log2(jnp.arange(2, top + 2, dtype=attention.dtype))
  total = n * users * weight.sum()
  value = _ranked_sum(attention) / total
  place = jnp.arange(1, top + 1, dtype=attention.dtype)
  most = ((2.0 * (n - place + 1.0) - n - 1.0) * users * weight).sum() / total
  # the m items at place l have the ranks n - l m + 1 .. n - l m + m
  fewest = (users * (n - 2.0 * place * users + users) * weight).sum() / total
  least = jnp.where(users * top > n, 0.0, fewest)
  return value, (value - least) / (most - least)


def vocd(count):
  """Mean of `|c_a - c_b| / max(c_a, c_b)` over pairs of exposed items; small is fair.

  The original is over similar items; as in the authors' code all exposed ones are.

  Args:
    count: f[n].
  """
  ordered = jnp.sort(count)
  seen = ordered > 0
  before = jnp.cumsum(seen) - 1.0  # exposed items with a smaller or equal count, in order
  below = jnp.cumsum(ordered) - ordered
  each = jnp.where(seen, before - below / jnp.where(seen, ordered, 1.0), 0.0)
  exposed = seen.sum().astype(count.dtype)
  pairs = 0.5 * exposed * (exposed - 1.0)
  return jnp.where(exposed > 1, each.sum() / jnp.where(pairs > 0, pairs, 1.0), jnp.nan)


def exposure_difference(persistence, users, top, patience):
  r"""II-D and AI-D: squared distance of exposure from an equal share, per user and of the mean.

  .. math::
    \mathrm{IID} = \mathrm{mean}_{u,i} (E_{ui} - e)^2, \qquad
    \mathrm{AID} = \mathrm{mean}_i (\mathrm{mean}_u E_{ui} - e)^2

  with `e = (1 - patience^k) / ((1 - patience) n)`. II-D depends on n, k and `patience` only.

  Args:
    persistence: f[n], sums of `patience^(place - 1)`.
    users: f[].
    top: `k`.
    patience: in (0, 1).
  """
  n = persistence.shape[0]
  each = jnp.asarray(patience, persistence.dtype) ** jnp.arange(top)
  share = each.sum() / n
  individual = (each**2).sum() / n - share**2
  return individual, ((persistence / users - share) ** 2).mean()


def measures(total: Exposure, *, top: int = 10, patience: float = 0.8) -> dict[str, jax.Array]:
  """All measures of summed exposure; pure, to be jitted or mapped with `top` static.

  Args:
    total: of `exposure`, summed over users.
    top: `k`, length of the lists.
    patience: that of `exposure`.

  Returns:
    dict of f[]: `jain`, `qualification`, `entropy`, `satisfaction`, `gini`, `gini_attention`, each
    with `..._corrected`; `vocd`, `iid`, `aid`.

  Example:
    >>> found = measures(exposure(jnp.asarray([[0, 1], [0, 2]]), catalogue=4), top=2)
    >>> print(" ".join(f"{float(found[k]):.3f}" for k in ("jain", "jain_corrected", "entropy")))
    0.667 0.333 nan

  Reference: Rampisela et al. (2024); card item_fairness, section 3.
  """
  n, users = total.count.shape[0], total.users
  pairs = {
    "jain": jain(total.count, users, top),
    "qualification": qualification(total.count, users, top),
    "entropy": entropy(total.count, users, top),
    "satisfaction": satisfaction(total.count, users, top),
    "gini": gini(total.count, users, top),
    "gini_attention": gini_attention(total.attention, users, top),
  }
  out = {}
  for name, (original, corrected) in pairs.items():
    choice = (top < n) & ((users > 1) | (name == "satisfaction"))
    out[name] = original
    out[f"{name}_corrected"] = jnp.where(choice, corrected, jnp.nan)
  out["vocd"] = vocd(total.count)
  iid, aid = exposure_difference(total.persistence, users, top, patience)
  return out | {"iid": iid, "aid": aid}


_exposure = jax.jit(exposure, static_argnames=("catalogue", "patience"))
_measures = jax.jit(measures, static_argnames=("top", "patience"))


def evaluate(
  items, *, catalogue: int = 1, patience: float = 0.8, block: int = 4096
) -> dict[str, float]:
  """All measures of a recommender's lists, in float64, reading so many users at a time.

  Memory is that of the lists, of one block and of a few arrays of the catalogue's size.

  Args:
    items: i[m, k] or an iterable of such arrays with the same k; ids 0..catalogue-1, best first.
    catalogue: `n`, all items that could be recommended, seen or not.
    patience: `gamma` of II-D and AI-D, in (0, 1).
    block: users that are read at once.

  Returns:
    dict of numbers, as `measures`.

  Raises:
    Refused: an id outside of the catalogue, an item twice in a list, lists of other lengths.

  Example:
    >>> found = evaluate(np.asarray([[0, 1, 2], [2, 1, 0]]), catalogue=3)
    >>> print(round(found["gini_attention"], 9), found["gini_attention_corrected"])
    0.037251422 nan

  Reference: Rampisela et al. (2024); card item_fairness.
  """
  call.positive("evaluate", catalogue=catalogue, block=block)
  call.positive("evaluate", patience=patience, **{"1 - patience": 1.0 - patience})
  total, top = None, None
  with jax.enable_x64(True):
    for lists in _blocks(items, block):
      top = lists.shape[1] if top is None else top
      _check(lists, catalogue, top)
      own = _exposure(lists, catalogue=catalogue, patience=patience)
      total = own if total is None else jax.tree.map(jnp.add, total, own)
    if total is None:
      raise Refused("evaluate got no lists; it needs at least one user.")
    found = jax.device_get(_measures(total, top=top, patience=patience))
  return {name: float(value) for name, value in found.items()}


def _blocks(items, block):
  """Arrays i[<= block, k] of users."""
  for lists in [items] if hasattr(items, "shape") else items:
    lists = np.asarray(lists)
    if lists.ndim != 2 or not np.issubdtype(lists.dtype, np.integer):
      raise Refused(f"evaluate reads integer ids [users, places]; it got shape {lists.shape}.")
    for first in range(0, len(lists), block):
      yield lists[first : first + block]


def _check(lists, catalogue, top):
  if lists.shape[1] != top or not 0 < top <= catalogue:
    raise Refused(
      f"evaluate needs lists of one length, 1 to catalogue={catalogue}; one has {lists.shape[1]}."
    )
  if lists.min() < 0 or lists.max() >= catalogue:
    raise Refused(
      f"evaluate needs ids 0..{catalogue - 1}; they are {lists.min()}..{lists.max()}. Subtract 1 "
      "from ids that begin with 1."
    )
  if (np.diff(np.sort(lists, 1), axis=1) == 0).any():
    raise Refused("evaluate needs different items in a list; some list has one twice.")


def accuracy_curves(hit, relevant) -> dict[str, jax.Array]:
  r"""Accuracy of lists at every cut-off, to be set beside their fairness.

  With `h_p` 1 where place p holds a relevant item, of which the user has `R`, at cut-off c:
  `hit` is whether any is seen, `reciprocal_rank` one over the first place of one, `precision` and
  `recall` the share of places and of the R, `average_precision` the sum of `h_p precision@p` over
  `min(R, c)`, and `ndcg` has an ideal list of `min(R, c)` relevant items. `R = 0` gives 0.

  Args:
    hit: f[B, K], 0 or 1, best place first.
    relevant: f[B], `R`, seen or not.

  Returns:
    dict of f[B, K], one value per cut-off 1..K.

  Example:
    >>> curves = accuracy_curves(jnp.asarray([[0.0, 1.0]]), jnp.asarray([3.0]))
    >>> print(curves["recall"], curves["average_precision"])
    [[0.         0.33333334]] [[0.   0.25]]

  Reference: Rampisela et al. (2024); card item_fairness, section 3, rank metrics.
  """
  chex.assert_rank([hit, relevant], [2, 1])
  hit = jnp.asarray(hit, jnp.result_type(float))
  place = jnp.arange(1, hit.shape[1] + 1, dtype=hit.dtype)
  seen = jnp.cumsum(hit, 1)
  best = jnp.minimum(relevant[:, None], place)
  safe = jnp.maximum(best, 1.0)
  discount = 1.0 / jnp.log2(place + 1.0)
  ideal = jnp.cumsum(discount)[jnp.asarray(safe - 1.0, jnp.int32)]
  precision = seen / place
  return {
    "hit": (seen > 0).astype(hit.dtype),
    "reciprocal_rank": jax.lax.cummax(hit / place, axis=1),
    "precision": precision,
    "average_precision": jnp.cumsum(hit * precision, 1) / safe,
    "recall": seen / jnp.maximum(relevant, 1.0)[:, None],
    "ndcg": jnp.cumsum(hit * discount, 1) / ideal,
  }
