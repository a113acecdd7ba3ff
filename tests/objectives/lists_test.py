"""Every listwise objective against its definition, with padded candidates, at several sizes."""

import functools

import definitions
import definitions_lists
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import call, objectives
from jaxpref.types import Refused

NAMES = sorted(definitions_lists.LISTS)
every = pytest.mark.parametrize("name", NAMES)
CHOICES = [
  ("pl_dpo", {"beta": 0.3, "top": 2}),
  ("plackett_luce", {"top": 1}),
  ("infonca", {"beta": 0.2, "temperature": 0.5}),
  ("nca", {"beta": 0.2, "temperature": 2.0}),
  ("exo", {"beta": 0.3, "temperature": 0.7}),
  ("dpo_rw", {"beta": 0.3, "temperature": 0.7}),
  ("list_net", {"temperature": 3.0}),
  ("approx_ndcg", {"temperature": 0.2}),
  ("rm_all_pairs", {"pairs": "sum"}),
  ("list_hinge", {"pairs": "mean"}),
  ("list_zero_one", {"pairs": "mean"}),
  ("list_mse", {"pairs": "mean"}),
  ("ranklist", {"far": "pairs", "far_weight": 0.3}),
  ("ranklist", {"skip": 2, "margin": 1.5}),
  ("ranklist", {"far": "pairs", "skip": 3}),
  ("ranklist_skip", {"skip": 0, "margin": 0.5}),
  ("ranklist_skip", {"skip": 3}),
  ("pro", {"sft_weight": 0.0}),
  ("irpo", {"gain": "none", "rivals": "sum"}),
  ("irpo", {"discount": "inverse", "beta": 0.3}),
  ("s_dpo", {"beta": 0.2}),
]


def _inputs(name, k, seed, rows=6):
  """Arrays by name; the first row is full, others lack up to k - 2 candidates, or are empty."""
  rng = np.random.default_rng(seed)
  present = np.ones((rows, k))
  for row in range(1, rows):
    present[row, rng.choice(k, rng.integers(0, k - 1), replace=False)] = 0
  rank = 1 + np.argsort(rng.random((rows, k)), 1)
  found = {
    "logp": rng.normal(-20.0, 4.0, (rows, k)),
    "ref_logp": rng.normal(-20.0, 4.0, (rows, k)),
    "length": rng.integers(1, 9, (rows, k)),
    "score": rng.normal(0.0, 1.5, (rows, k)),
    "relevance": np.argsort(rng.random((rows, k)), 1) / 2,
    "rank": rank,
    "present": present,
  }
  if name == "s_dpo":
    found["present"][:, 0] = 1  # the preferred candidate
  return [jnp.asarray(found[n], jnp.float32) for n in call.needs(getattr(objectives, name))]


@functools.cache
def _run(name, **knobs):
  """Jitted: arrays -> ((loss, metrics), gradient of the summed loss in the first array)."""
  fn = call.bind(getattr(objectives, name), **knobs)

  def both(arrays):
    total = lambda x: (fn(x, *arrays[1:])[0].sum(), fn(x, *arrays[1:]))
    (_, found), grad = jax.value_and_grad(total, has_aux=True)(arrays[0])
    return found, grad

  return jax.jit(both)


def _check_values_and_gradient(name, arrays, **knobs):
  wanted = definitions_lists.LISTS[name]
  (value, _), grad = _run(name, **knobs)(arrays)
  np.testing.assert_allclose(value, wanted(*arrays, **knobs), rtol=2e-5, atol=2e-6)
  slope = definitions.slope(lambda x: wanted(x, *arrays[1:], **knobs).sum(), arrays[0])
  np.testing.assert_allclose(grad, slope, rtol=1e-4, atol=1e-5)


@every
@pytest.mark.parametrize("k", [2, 3, 5, 8])
def test_equals_the_definition_on_the_present_candidates(name, k):
  _check_values_and_gradient(name, _inputs(name, k, seed=k))


@pytest.mark.parametrize(("name", "knobs"), CHOICES)
def test_knobs_equal_the_definition(name, knobs):
  _check_values_and_gradient(name, _inputs(name, 5, seed=20), **knobs)


@every
@pytest.mark.parametrize("k", [2, 5])
def test_padded_candidates_change_nothing_whatever_stands_in_them(name, k):
  reads, arrays = call.needs(getattr(objectives, name)), _inputs(name, k, seed=30 + k)
  run, there = _run(name), arrays[-1] > 0
  own, grad = run(arrays)
  for other in (jnp.nan, 1e6):
    wild = [
      x if n == "present" else jnp.where(there, x, other)
      for n, x in zip(reads, arrays, strict=True)
    ]
    more = [
      jnp.pad(x, ((0, 0), (0, 2)), constant_values=0.0 if n == "present" else other)
      for n, x in zip(reads, wild, strict=True)
    ]
    for changed in (wild, more):
      found, slope = run(changed)
      jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), own, found)
      np.testing.assert_allclose(slope[:, :k], grad, rtol=1e-5, atol=1e-6)
      np.testing.assert_array_equal(np.asarray(slope)[np.asarray(changed[-1]) == 0], 0.0)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "s_dpo"])
def test_permuting_the_candidates_permutes_the_gradient_and_keeps_the_loss(name):
  arrays, order = _inputs(name, 5, seed=40), np.asarray([3, 0, 1, 4, 2])
  (loss, _), grad = _run(name)(arrays)
  (moved, _), slope = _run(name)([x[:, order] for x in arrays])
  np.testing.assert_allclose(moved, loss, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(slope, grad[:, order], rtol=1e-5, atol=1e-6)


@every
def test_a_list_without_or_with_one_present_candidate_is_finite(name):
  arrays, none = _inputs(name, 5, seed=50), jnp.zeros((6, 5)).at[3:, 0].set(1.0)
  (loss, metrics), grad = _run(name)([*arrays[:-1], none])
  for array in (loss, grad, *jax.tree.leaves(metrics)):
    assert jnp.isfinite(array).all()
  np.testing.assert_array_equal(metrics["rewards/accuracies"][1], 0.0)
  np.testing.assert_array_equal(loss[:3], 0.0)


@every
def test_equal_grades_and_equal_scores_are_finite(name):
  (loss, _), grad = _run(name)([jnp.ones((6, 5)) for _ in _inputs(name, 5, seed=51)])
  assert jnp.isfinite(loss).all() and jnp.isfinite(grad).all()


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("nca", "pro", "approx_ndcg")])
def test_only_differences_of_scores_count(name):
  arrays = _inputs(name, 5, seed=52)
  _, grad = _run(name)(arrays)
  if name == "irpo":
    grad = grad * arrays[2]
  np.testing.assert_allclose(grad.sum(1), 0.0, atol=2e-5)


@every
def test_one_candidate_or_other_shapes_are_refused(name):
  fn, arrays = getattr(objectives, name), _inputs(name, 4, seed=53)
  with pytest.raises(
    Refused, match=rf"{name} reads at least 2 candidates.*\(6, 1\) where \[B, K\]"
  ):
    fn(*(x[:, :1] for x in arrays))
  with pytest.raises(AssertionError):
    fn(*arrays[:-1], arrays[-1][:, :3])


@pytest.mark.parametrize(
  ("name", "knobs", "sentence"),
  [
    ("pl_dpo", {"beta": 0.0}, "pl_dpo needs beta > 0; it is 0.0"),
    ("pl_dpo", {"top": -1}, "pl_dpo needs top >= 0; it is -1"),
    ("infonca", {"temperature": 0.0}, "infonca needs temperature > 0"),
    ("list_hinge", {"pairs": "max"}, "list_hinge has no pairs='max'; it has: sum, mean"),
    ("irpo", {"gain": "exp"}, "irpo has no gain='exp'; it has: exponential, none"),
    ("irpo", {"discount": "log2"}, "irpo has no discount='log2'; it has: log, inverse"),
    ("irpo", {"rivals": "max"}, "irpo has no rivals='max'"),
    ("ranklist", {"far": "all"}, "ranklist has no far='all'; it has: lse, pairs"),
    ("ranklist_skip", {"margin": -1.0}, "ranklist_skip needs margin >= 0"),
    ("pro", {"sft_weight": -0.1}, "pro needs sft_weight >= 0"),
  ],
)
def test_wrong_knobs_are_refused(name, knobs, sentence):
  with pytest.raises(Refused, match=sentence):
    getattr(objectives, name)(*_inputs(name, 3, seed=54), **knobs)
