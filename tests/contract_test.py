"""What every function of a room must keep, found by name: a new one is tested when it is imported.

Arrays are drawn from the vocabulary by name, so no function needs a test of its own here.
"""

import inspect
import re
import sys
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import call, catalogue, vocabulary
from jaxpref.types import Refused

B, T, V = 4, 6, 7
FIXED = ("ref_", "old_", "teacher_", "sampler_")  # prefixes of arrays that get no gradient
FUNCTIONS = [
  pytest.param(fn, id=name) for name, fn in sorted(catalogue.functions("objectives").items())
]
every_objective = pytest.mark.parametrize("fn", FUNCTIONS)


def _draw(name, rng, b, k):
  """A plausible array of a name of the vocabulary; one row has no token that counts."""
  name = vocabulary.plain(name)
  shape = tuple({"B": b, "K": k, "T": T, "R": T, "D": 5, "V": V}[a] for a in vocabulary.axes(name))
  empty = np.ones(shape, np.float32)
  empty[min(1, b - 1)] = 0
  draw = {
    "mask": lambda: (rng.random(shape) < 0.7) * empty,
    "prompt_mask": lambda: rng.random(shape) < 0.5,
    "present": lambda: np.ones(shape),
    "keep": lambda: (rng.random(shape) < 0.7) * empty,
    "weight": lambda: rng.integers(0, 3, shape),
    "relevance": lambda: np.arange(b * k).reshape(shape) % 2 if k == 1 else _grades(shape),
    "label": lambda: rng.random(shape),
    "strength": lambda: rng.gamma(2.0, 1.0, shape),
    "baseline": lambda: np.full(shape, rng.gamma(2.0, 1.0)),
    "logp": lambda: -rng.gamma(4.0, 5.0, shape),
    "prompt_logp": lambda: -rng.gamma(4.0, 5.0, shape),
    "length": lambda: rng.integers(1, 30, shape),
    "token_logp": lambda: -rng.gamma(2.0, 1.0, shape),
    "entropy": lambda: rng.gamma(2.0, 1.0, shape),
    "collision": lambda: -rng.gamma(2.0, 0.5, shape),
  }.get(name, lambda: rng.normal(0.0, 2.0, shape))
  return jnp.asarray(draw(), jnp.float32)


def _grades(shape):
  """The preferred candidate first: K-1, ..., 1, 0."""
  return np.broadcast_to(np.arange(shape[1])[::-1], shape)


def _inputs(fn, seed=0, b=B):
  """Arrays for a function, with as many candidates as it takes: two or, if it refuses, 1 or 3."""
  for k in (2, 1, 3):
    rng = np.random.default_rng(seed)
    arrays = [
      sys.modules[fn.__module__].init_carry() if name == "carry" else _draw(name, rng, b, k)
      for name in call.needs(fn)
    ]
    try:
      jax.eval_shape(fn, *arrays)
    except Refused:
      continue
    return arrays
  raise AssertionError(f"{fn.__name__} takes neither 1, 2 nor 3 candidates")


def _leaves(metrics):
  """(name, array) of every array, the two of a pair `(value, count)` apart."""
  for name, metric in metrics.items():
    parts = metric if isinstance(metric, tuple) else (metric,)
    assert len(parts) in (1, 2)
    for part in parts:
      yield name, part


def _coupled(fn):
  return getattr(sys.modules[fn.__module__], "COUPLED", False)


def _rows(tree, take):
  return jax.tree.map(lambda x: x[take], tree)


def _some(fn, arrays, take):
  """Rows of the inputs; a memory has none."""
  named = zip(call.needs(fn), arrays, strict=True)
  return [x if name == "carry" else _rows(x, take) for name, x in named]


@every_objective
def test_reads_only_names_of_the_vocabulary(fn):
  assert call.needs(fn) and all(vocabulary.known(name) for name in call.needs(fn))


@every_objective
def test_knobs_are_keyword_only_annotated_and_have_defaults_of_their_type(fn):
  kinds = {p.kind for p in inspect.signature(fn).parameters.values()}
  assert kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
  hints = typing.get_type_hints(fn)
  for name in call.needs(fn):
    assert inspect.signature(fn).parameters[name].default is inspect.Parameter.empty
  for name, default in call.knobs(fn).items():
    assert type(default) is hints[name], f"{name} = {default!r} is annotated {hints[name]}"
    assert hints[name] is not bool, f"{name} would switch the formula: make it another function"


@every_objective
def test_docstring_has_formula_every_parameter_returns_example_and_reference(fn):
  parts = catalogue.sections(inspect.getdoc(fn))
  assert ".. math::" in parts[""] and ">>>" in parts["Example"]
  assert re.search(r"\d{4}", parts["Reference"]), "a reference has a year"
  assert parts["Returns"].startswith("loss: f32[B") and "\nmetrics: " in parts["Returns"]
  told = catalogue.entries(parts["Args"])
  assert list(told) == [*call.needs(fn), *call.knobs(fn)]
  for name in call.needs(fn):
    assert re.match(r"[fiu]32\[", told[name]), f"{name} has no shape"


@every_objective
def test_loss_is_finite_f32_per_example_candidate_or_token_and_metrics_are_not_reduced(fn):
  arrays = _inputs(fn)
  loss, metrics = fn(*arrays)
  k = max([x.shape[1] for x in jax.tree.leaves(arrays) if x.ndim > 1], default=1)
  assert loss.dtype == jnp.float32 and loss.shape[0] == B and loss.ndim in (1, 2, 3)
  assert loss.ndim < 2 or loss.shape[1] <= k
  assert loss.ndim < 3 or loss.shape[2] == T
  assert jnp.isfinite(loss).all()
  for name, array in _leaves(metrics):
    assert array.dtype == jnp.float32 and array.shape[0] == B, name
    assert jnp.isfinite(array).all(), name


@every_objective
def test_a_metric_with_a_count_has_equal_shapes_and_no_negative_count(fn):
  for metric in fn(*_inputs(fn))[1].values():
    if isinstance(metric, tuple):
      value, count = metric
      assert value.shape == count.shape and (count >= 0).all()


@every_objective
def test_jit_equals_eager(fn):
  arrays = _inputs(fn)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    fn(*arrays),
    jax.jit(fn)(*arrays),
  )


@every_objective
def test_vmap_over_a_further_axis_equals_a_loop(fn):
  stacked = jax.tree.map(lambda *pair: jnp.stack(pair), _inputs(fn, 1), _inputs(fn, 2))
  mapped = jax.vmap(fn)(*stacked)
  for i in range(2):
    one = fn(*_rows(stacked, i))
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), _rows(mapped, i), one
    )


@every_objective
def test_the_order_of_the_examples_does_not_matter(fn):
  arrays, order = _inputs(fn, 3), np.asarray([2, 0, 3, 1])
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    _rows(fn(*arrays), order),
    fn(*_some(fn, arrays, order)),
  )


@every_objective
def test_an_example_changes_only_its_own_loss_unless_the_module_says_coupled(fn):
  arrays, others = _inputs(fn, 4), _inputs(fn, 5)
  named = zip(call.needs(fn), arrays, others, strict=True)
  changed = [x if name == "carry" else x.at[2].set(y[2]) for name, x, y in named]
  before, after = fn(*arrays), fn(*changed)
  differs = jax.tree.map(lambda a, b: bool((a[2] != b[2]).any()), before, after)
  assert any(jax.tree.leaves(differs)), "the draw changes nothing: this test would not see it"
  rest = np.asarray([0, 1, 3])
  same = jax.tree.map(lambda a, b: bool((a[rest] == b[rest]).all()), before, after)
  assert all(jax.tree.leaves(same)) != _coupled(fn)


@every_objective
def test_no_gradient_reaches_the_reference_or_the_baseline(fn):
  arrays, names = _inputs(fn, 6), call.needs(fn)
  grads = jax.grad(lambda xs: fn(*xs)[0].sum())(arrays)
  frozen = [n.startswith(FIXED) or n in ("baseline", "carry") for n in names]
  for name, grad, still in zip(names, grads, frozen, strict=True):
    if still:
      jax.tree.map(lambda g, n=name: np.testing.assert_array_equal(g, 0.0, err_msg=n), grad)
  learned = [g for n, g in zip(names, grads, strict=True) if n in vocabulary.MEASURED]
  assert any((g != 0).any() for g in learned)


@every_objective
def test_metrics_have_no_gradient(fn):
  arrays = _inputs(fn, 7)
  total = lambda xs: sum(a.sum() for _, a in _leaves(fn(*xs)[1]))
  for name, grad in zip(call.needs(fn), jax.grad(total)(arrays), strict=True):
    jax.tree.map(lambda g, n=name: np.testing.assert_array_equal(g, 0.0, err_msg=n), grad)


@every_objective
@pytest.mark.parametrize("size", [-1e6, 1e6])
@pytest.mark.parametrize("place", [0, -1])
def test_extremes_are_finite_in_value_and_gradient(fn, size, place):
  arrays = _inputs(fn, 8)
  for i, name in enumerate(call.needs(fn)):
    if vocabulary.plain(name) not in ("logp", "token_logp", "score", "value", "entropy", "logits"):
      continue
    wild = [*arrays[:i], arrays[i].at[:, place].set(size), *arrays[i + 1 :]]
    loss, metrics = fn(*wild)
    grads = jax.grad(lambda xs: fn(*xs)[0].sum())(wild)
    for array in (loss, *(a for _, a in _leaves(metrics)), *jax.tree.leaves(grads)):
      assert jnp.isfinite(array).all(), name


@every_objective
def test_a_batch_of_one_works(fn):
  loss, _ = fn(*_inputs(fn, 9, b=1))
  assert loss.shape[0] == 1 and jnp.isfinite(loss).all()
