"""Pair objectives that couple a batch: AOT, pairwise KTO, BCO with a shift, alpha-DPO."""

import functools

import definitions_pairs
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpref import call, objectives, update
from jaxpref.objectives import aot, aot_unpaired, cdpo, kto_pair
from jaxpref.types import TrainState

COUPLED = ("aot", "aot_unpaired", "kto_pair", "bco_pair_shifted", "alpha_dpo")


def _arrays(seed, rows=6):
  rng = np.random.default_rng(seed)
  logp, ref_logp = rng.normal(-20.0, 4.0, (2, rows, 2)).astype(np.float32)
  length = rng.integers(1, 30, (rows, 2)).astype(np.float32)
  arrays = {"logp": logp, "ref_logp": ref_logp, "length": length, "weight": np.ones(rows)}
  return {k: jnp.asarray(v, jnp.float32) for k, v in arrays.items()}


def _term(name, **knobs):
  return update.Term("main", call.bind(getattr(objectives, name), **knobs), 1.0, "", 0.0)


def _fed(name, arrays, **knobs):
  """Loss and metrics, from an empty memory where one is read."""
  term = _term(name, **knobs)
  memory = update.init_carry((term,))
  return call.feed(term.fn, arrays | {"carry": memory.get("main")})


@pytest.mark.parametrize("name", COUPLED)
def test_the_module_says_so(name):
  assert update.coupled(getattr(objectives, name))


@pytest.mark.parametrize("name", COUPLED)
def test_rows_of_weight_zero_change_no_other_row(name):
  arrays, wild = _arrays(0), _arrays(1)
  filled = {k: jnp.concatenate([v, 7 * wild[k]]) for k, v in arrays.items()}
  filled["weight"] = jnp.concatenate([jnp.ones(6), jnp.zeros(6)])
  alone, among = _fed(name, arrays), _fed(name, filled)
  np.testing.assert_allclose(among[0][:6], alone[0], rtol=1e-5)
  for metric, value in alone[1].items():
    np.testing.assert_allclose(among[1][metric][:6], value, rtol=1e-5, err_msg=metric)
  if name.startswith("aot"):
    np.testing.assert_array_equal(among[0][6:], 0.0)
  else:
    assert np.isfinite(among[0]).all()
  other = _fed(name, filled | {"weight": jnp.ones(12)})[0][:6]
  assert (np.abs(other - alone[0]) > 1e-4).any(), "weights change nothing: this test sees nothing"


@pytest.mark.parametrize("fn", [aot, aot_unpaired])
@pytest.mark.parametrize("e", [0.0, 0.2])
def test_aot_of_one_pair_is_cdpo(fn, e):
  arrays = _arrays(2, rows=1)
  loss = fn(arrays["logp"], arrays["ref_logp"], jnp.ones(1), label_smoothing=e)[0]
  wanted = cdpo(arrays["logp"], arrays["ref_logp"], label_smoothing=e)[0]
  np.testing.assert_allclose(loss, wanted, rtol=1e-6)


def test_aot_does_not_ask_for_the_order_of_the_pairs():
  logp, ref_logp, one = *(_arrays(3)[k] for k in ("logp", "ref_logp")), jnp.ones(6)
  order = jnp.asarray([3, 1, 5, 0, 2, 4])
  loss = aot(logp, ref_logp, one)[0]
  np.testing.assert_allclose(aot(logp[order], ref_logp[order], one)[0], loss[order], rtol=1e-6)
  # even the reference's margins may belong to other pairs
  np.testing.assert_allclose(aot(logp, ref_logp[order], one)[0], loss, rtol=1e-6)


def test_unpaired_aot_does_not_ask_which_response_was_preferred_to_which():
  logp, ref_logp, one = *(_arrays(4)[k] for k in ("logp", "ref_logp")), jnp.ones(6)
  order = jnp.asarray([3, 1, 5, 0, 2, 4])
  mixed = [jnp.stack([x[:, 0], x[order, 1]], 1) for x in (logp, ref_logp)]
  loss = aot_unpaired(logp, ref_logp, one)[0]
  np.testing.assert_allclose(aot_unpaired(*mixed, one)[0], loss, rtol=1e-6)
  assert (np.abs(aot(*mixed, one)[0] - aot(logp, ref_logp, one)[0]) > 1e-3).any()


def test_aot_differs_from_dpo_in_general_and_falls_when_margins_grow():
  arrays = _arrays(5)
  loss = aot(arrays["logp"], arrays["ref_logp"], arrays["weight"])[0]
  assert (np.abs(loss - objectives.dpo(arrays["logp"], arrays["ref_logp"])[0]) > 1e-3).any()
  better = arrays["logp"] + jnp.asarray([5.0, 0.0])
  assert (aot(better, arrays["ref_logp"], arrays["weight"])[0] < loss).all()


def test_the_baselines_of_pairwise_kto_are_the_other_kinds_means_and_get_gradient():
  logp = jnp.asarray([[-10.0, -12.0], [-9.0, -11.0]])
  ref_logp = jnp.asarray([[-11.0, -11.5], [-12.0, -12.5]])  # a = 1, 3; b = -0.5, 1.5
  loss, metrics = kto_pair(logp, ref_logp, jnp.ones(2))
  np.testing.assert_allclose(metrics["kl/chosen"], [2.0, 2.0])
  np.testing.assert_allclose(metrics["kl/rejected"], [0.5, 0.5])
  s = lambda z: 1 / (1 + np.exp(-z))
  np.testing.assert_allclose(loss[0], [1 - s(0.05), 1 - s(0.25)], rtol=1e-6)
  grad = jax.grad(lambda x: kto_pair(x, ref_logp, jnp.ones(2))[0][0, 0])(logp)
  assert grad[1, 1] > 0  # a row's loss has a gradient in another row: through the mean
  lower = kto_pair(logp - 10, ref_logp, jnp.ones(2))[1]
  np.testing.assert_array_equal(lower["kl/chosen"], 0.0)


def test_pairwise_kto_weighs_its_means():
  arrays = _arrays(6)
  twice = {k: jnp.concatenate([v, v[:1]]) for k, v in arrays.items()}
  arrays["weight"] = arrays["weight"].at[0].set(2.0)
  one, other = _fed("kto_pair", arrays)[0], _fed("kto_pair", twice)[0]
  np.testing.assert_allclose(one, other[:6], rtol=1e-5)


def _measure(params, batch, want, key):
  """The parameters are the log-probabilities of the rows."""
  del want, key
  return {"logp": params["logp"][batch["index"]], "length": batch["length"]}


def _train(name, batches, tx, **knobs):
  """Losses, metrics and memories of a few steps of the ordinary loop."""
  terms = (_term(name, **knobs),)
  grad_fn = update.make_grad_fn(terms, _measure, frozenset({"logp", "length"}), 1)
  step = update.make(update.gradient, {"grad_fn": grad_fn, "tx": tx}, terms)
  params = {"logp": _arrays(7)["logp"]}
  carry = update.init_carry(terms)
  state = TrainState(jnp.int32(0), params, tx.init(params), jax.random.key(0), carry)
  seen = []
  for batch in batches:
    state, metrics = step(state, batch)
    seen.append((float(metrics["loss"]), metrics, state.carry["main"]))
  return seen


def _batches(steps):
  base = _arrays(7) | {"index": jnp.arange(6), "weight": jnp.asarray([1.0, 2, 0, 1, 0.5, 1])}
  del base["logp"]
  return [base | {"ref_logp": _arrays(8 + i)["ref_logp"]} for i in range(steps)]


def test_the_shift_of_bco_is_the_mean_of_the_batch_means_so_far_this_one_included():
  means, batches = [], _batches(4)
  logp = np.float64(_arrays(7)["logp"])
  for (loss, metrics, carry), batch in zip(
    _train("bco_pair_shifted", batches, optax.sgd(0.0), beta=0.3), batches, strict=True
  ):
    ref, weight = np.float64(batch["ref_logp"]), np.float64(batch["weight"])
    means.append(np.average(0.3 * (logp - ref).mean(1), weights=weight))
    shift = np.mean(means)
    np.testing.assert_allclose(metrics["reward_mean"], shift, rtol=1e-5)
    np.testing.assert_allclose(carry["mean"], shift, rtol=1e-5)
    assert carry["count"] == len(means)
    losses = definitions_pairs.bco_pair(logp, ref, 0.3, shift)
    np.testing.assert_allclose(loss, np.average(losses, weights=weight), rtol=1e-5)


def test_bco_with_an_old_memory_and_balanced_rewards_is_the_unshifted_form():
  logp = jnp.asarray([[-10.0, -12.0]])
  ref_logp = logp - jnp.asarray([[1.0, -1.0]])  # rewards of mean 0
  loss, _ = _fed("bco_pair_shifted", {"logp": logp, "ref_logp": ref_logp, "weight": jnp.ones(1)})
  np.testing.assert_array_equal(loss, objectives.bco_pair(logp, ref_logp)[0])


def test_alpha_dpo_follows_the_moving_mean_and_deviation():
  mean = std = 0.0
  batches, logp = _batches(4), np.float64(_arrays(7)["logp"])
  for (loss, metrics, carry), batch in zip(
    _train("alpha_dpo", batches, optax.sgd(0.0), alpha=0.5), batches, strict=True
  ):
    ref, n, weight = (np.float64(batch[k]) for k in ("ref_logp", "length", "weight"))
    gap = (logp / n - ref / n) @ np.asarray([1.0, -1.0])
    centre = np.average(gap, weights=weight)
    counted = (weight > 0).sum()
    spread = np.average((gap - centre) ** 2, weights=weight) * counted / (counted - 1)
    mean, std = 0.9 * mean + 0.1 * centre, 0.9 * std + 0.1 * np.sqrt(spread)
    np.testing.assert_allclose([carry["mean"], carry["std"]], [mean, std], rtol=2e-5)
    np.testing.assert_allclose(metrics["gap_std"], std, rtol=2e-5)
    losses = definitions_pairs.alpha_dpo(logp, ref, n, mean, std, alpha=0.5)
    np.testing.assert_allclose(loss, np.average(losses, weights=weight), rtol=2e-5)


def test_the_deviation_at_equal_weights_is_that_of_a_sample():
  arrays = _arrays(9)
  ratio = (np.float64(arrays["logp"]) - np.float64(arrays["ref_logp"])) / arrays["length"]
  wanted = np.std(ratio[:, 0] - ratio[:, 1], ddof=1)
  _, metrics = _fed("alpha_dpo", arrays, decay=0.0)
  np.testing.assert_allclose(metrics["gap_std"], wanted, rtol=1e-5)


def test_alpha_dpo_without_alpha_is_simpo_and_its_target_has_no_gradient():
  arrays = _arrays(10)
  simpo = functools.partial(objectives.simpo, beta=2.5, gamma=1.5)
  plain = _fed("alpha_dpo", arrays, alpha=0.0)[0]
  np.testing.assert_allclose(plain, simpo(arrays["logp"], arrays["length"])[0], rtol=1e-6)
  loss = lambda x: _fed("alpha_dpo", arrays | {"logp": x})[0]
  grad = jax.grad(lambda x: loss(x).sum())(arrays["logp"])
  wrong = -np.expm1(-np.float64(loss(arrays["logp"])))  # s(target - margin)
  signed = np.asarray([[-1.0, 1.0]]) / np.float64(arrays["length"])
  np.testing.assert_allclose(grad, 2.5 * wrong[:, None] * signed, rtol=1e-4, atol=1e-6)


def test_a_batch_without_spread_has_no_adaptive_target():
  arrays = _arrays(11) | {"ref_logp": _arrays(11)["logp"]}
  wanted = objectives.simpo(arrays["logp"], arrays["length"], beta=2.5, gamma=1.5)[0]
  np.testing.assert_allclose(_fed("alpha_dpo", arrays)[0], wanted, rtol=1e-6)
