"""What every advantage must keep, found by name: a new one is tested when it is imported."""

import inspect
import re
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import call, catalogue, vocabulary

B, K, T, S, M = 3, 4, 6, 5, 2
SIZES = {"T": T, "S": S, "M": M}
FUNCTIONS = [
  pytest.param(fn, id=name) for name, fn in sorted(catalogue.functions("advantages").items())
]
every = pytest.mark.parametrize("fn", FUNCTIONS)
REWARDS = ("reward", "token_reward", "segment_reward", "reward_parts")
MASKS = ("mask", "present", "segment_mask")
KNOBS = {"passk_analytic": {"k": 2}, "gfpo": {"by": "efficiency", "retain": 3}}  # for small groups


def _draw(name, seed, b=B, k=K):
  rng = np.random.default_rng([seed, *name.encode()])
  plain = vocabulary.plain(name)
  shape = tuple({"B": b, "K": k, **SIZES}[a] for a in vocabulary.axes(name))
  if plain == "segment_key":
    return jnp.asarray(rng.integers(0, 3, shape), jnp.uint32)
  draw = {
    "mask": lambda: np.arange(T) < rng.integers(2, T + 1, shape[:2])[..., None],
    "segment_mask": lambda: np.arange(S) < rng.integers(2, S + 1, shape[:2])[..., None],
    "present": lambda: np.ones(shape),
    "done": lambda: np.broadcast_to(np.arange(T) == T - 1, shape),
    "token_logp": lambda: -rng.gamma(2.0, 0.5, shape),
    "collision": lambda: -rng.gamma(2.0, 0.5, shape),
    "rollout_weight": lambda: rng.gamma(2.0, 0.5, shape),
    "part_weight": lambda: np.broadcast_to(np.linspace(1.0, 0.5, M), shape),
    "reward": lambda: rng.integers(0, 2, shape) + 0.1 * rng.random(shape),
  }.get(plain, lambda: rng.normal(0.0, 1.0, shape))
  return jnp.asarray(draw(), jnp.float32)


def _inputs(fn, seed=0, b=B, k=K):
  """Arrays by name; without `present` rollouts are absent by an empty mask."""
  return {name: _draw(name, seed, b, k) for name in call.needs(fn)}


def _bound(fn):
  return call.bind(fn, **KNOBS.get(fn.__name__, {}))


def _run(fn, arrays):
  return call.feed(_bound(fn), arrays)


def _close(left, right):
  np.testing.assert_allclose(left, right, rtol=1e-5, atol=2e-6)


@every
def test_reads_known_names_and_knobs_have_defaults_of_their_type(fn):
  assert all(vocabulary.known(name) for name in call.needs(fn))
  kinds = {p.kind for p in inspect.signature(fn).parameters.values()}
  assert kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
  hints = typing.get_type_hints(fn)
  for name, default in call.knobs(fn).items():
    assert type(default) is hints[name] and hints[name] in (float, int, str), name


@every
def test_docstring_has_formula_every_parameter_returns_example_and_reference(fn):
  parts = catalogue.sections(inspect.getdoc(fn))
  assert ".. math::" in parts[""] and ">>>" in parts["Example"]
  assert re.search(r"\d{4}", parts["Reference"])
  assert parts["Returns"].startswith("advantage: f32[B, K")
  told = catalogue.entries(parts["Args"])
  assert list(told) == [*call.needs(fn), *call.knobs(fn)]
  for name in call.needs(fn):
    axes = ", ".join(vocabulary.axes(name))
    assert told[name].startswith(f"{vocabulary.NAMES[vocabulary.plain(name)].kind}[{axes}]"), name


@every
def test_is_finite_f32_of_rollouts_segments_or_tokens_and_jit_equals_eager(fn):
  arrays = _inputs(fn)
  ours = _run(fn, arrays)
  assert ours.shape in ((B, K), (B, K, S), (B, K, T)) and ours.dtype == jnp.float32
  assert jnp.isfinite(ours).all() and (ours != 0).any()
  _close(jax.jit(_bound(fn))(*arrays.values()), ours)


@every
def test_the_order_of_situations_and_of_rollouts_is_that_of_the_advantages(fn):
  arrays, order, turn = _inputs(fn, 1), np.asarray([2, 0, 1]), np.asarray([3, 1, 0, 2])
  ours = _run(fn, arrays)
  _close(_run(fn, {k: v[order] for k, v in arrays.items()}), ours[order])
  turned = {k: v[:, turn] if "K" in vocabulary.axes(k) else v for k, v in arrays.items()}
  _close(_run(fn, turned), ours[:, turn])


@every
def test_absent_rollouts_and_padding_change_nothing(fn):
  arrays = _inputs(fn, 2)
  wide = {name: _widened(name, x) for name, x in arrays.items()}
  ours, wider = _run(fn, arrays), _run(fn, wide)
  _close(wider[tuple(slice(n) for n in ours.shape)], ours)
  assert (wider[:, K:] == 0).all() and (wider[..., T:] == 0).all()


def _widened(name, x):
  """One more absent rollout, two more tokens or segments outside the mask, all of them junk."""
  axes = vocabulary.axes(name)
  extra = [(0, {"K": 1, "T": 2, "S": 2}.get(a, 0)) for a in axes]
  junk = 0 if vocabulary.plain(name) in MASKS else 1 if x.dtype == jnp.uint32 else 37.0
  return jnp.pad(x, extra, constant_values=junk)


@every
def test_unscorable_rollouts_are_zero_and_leave_the_others_alone(fn):
  arrays = _inputs(fn, 3)
  rewards = [n for n in call.needs(fn) if n in REWARDS]
  if not rewards:
    pytest.skip("reads no reward")
  gone = {n: v.at[1, 2].set(0) if n in MASKS else v for n, v in arrays.items()}
  nan = {n: v.at[1, 2].set(jnp.nan) if n in rewards else v for n, v in arrays.items()}
  ours = _run(fn, nan)
  assert (ours[1, 2] == 0).all() and jnp.isfinite(ours).all()
  _close(ours, _run(fn, gone))


@every
def test_empty_batches_and_groups_of_one_and_two_are_finite(fn):
  for k in (1, 2):
    assert jnp.isfinite(_run(fn, _inputs(fn, 4, k=k))).all()
  empty = {n: 0 * v if n in MASKS else v for n, v in _inputs(fn, 5).items()}
  np.testing.assert_array_equal(_run(fn, empty), 0.0)


@every
@pytest.mark.parametrize("level", [0.0, 0.424, 1e4])
def test_equal_rewards_are_finite_and_where_there_is_a_baseline_zero(fn, level):
  arrays = _inputs(fn, 6)
  arrays |= {n: jnp.full_like(v, level) for n, v in arrays.items() if n in REWARDS}
  ours = _run(fn, arrays)
  assert jnp.isfinite(ours).all()
  if "reward" in arrays and "ref_token_logp" not in arrays and fn.__name__ != "raw":
    np.testing.assert_array_equal(ours, 0.0)


@every
def test_nothing_has_a_gradient(fn):
  arrays = _inputs(fn, 7)
  real = {n: v for n, v in arrays.items() if v.dtype == jnp.float32}
  grads = jax.grad(lambda xs: (_run(fn, arrays | xs) ** 2).sum())(real)
  for name, grad in grads.items():
    np.testing.assert_array_equal(grad, 0.0, err_msg=name)


@every
@pytest.mark.parametrize("size", [-1e6, 1e6])
def test_extremes_are_finite(fn, size):
  arrays = _inputs(fn, 8)
  for name, x in arrays.items():
    if x.dtype == jnp.float32 and name not in (*MASKS, "done", "rollout_weight", "old_collision"):
      size_of = -abs(size) if "logp" in name else size
      place = (slice(None), 0) if x.ndim > 1 else 0
      wild = arrays | {name: x.at[place].set(size_of)}
      assert jnp.isfinite(_run(fn, wild)).all(), name
