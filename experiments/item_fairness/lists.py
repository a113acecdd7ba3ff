"""Recommendations without a recommender: insertion of fresh items, and the extremes."""

import numpy as np

from jaxpref.metrics import item_fairness


def measured(lists, catalogue) -> dict[str, float]:
  """All measures that are defined; how many are not is `undefined`."""
  found = item_fairness.evaluate(lists, catalogue=catalogue)
  kept = {name: value for name, value in found.items() if np.isfinite(value)}
  return kept | {"undefined": float(len(found) - len(kept))}


def inserted(users, top, steps):
  """Lists after some steps: at first all users get the same items; a step makes one place fresh.

  Places are refilled from the last one up, with items that nobody has got yet; the first user keeps
  the old ones, so that no item is lost and in the end each stands in exactly one list.
  """
  lists = np.tile(np.arange(top), (users, 1))
  fresh = top + np.arange((users - 1) * top).reshape(top, users - 1)
  for step in range(steps):
    lists[1:, top - 1 - step] = fresh[step]
  return lists


def insertion(config) -> dict[str, float]:
  """One step of the insertion; the catalogue has as many items as there are places."""
  lists = inserted(config.users, config.top, config.step)
  return measured(lists, config.users * config.top)


def fairest(users, top, catalogue):
  """Lists that go around the catalogue: counts differ by at most one."""
  return (np.arange(users * top) % catalogue).reshape(users, top)


def extremes(config) -> dict[str, float]:
  """Measures of the least and of the most even lists."""
  users, top, catalogue = config.users, config.top, config.catalogue
  out = {}
  for name, lists in (
    ("unfairest", inserted(users, top, 0)),
    ("fairest", fairest(users, top, catalogue)),
  ):
    out |= {f"{name}/{k}": v for k, v in measured(lists, catalogue).items()}
  return out
