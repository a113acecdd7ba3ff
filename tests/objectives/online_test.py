"""XPO, Nash-MD, A*-PO and the degree loss of SPO: definitions, identities and degenerate cases."""

import definitions_lists
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref.objectives import a2po, a2po_offline, dpo, ipo_sum, nash_md, spo_degree, xpo, xpo_ipo
from jaxpref.objectives.a2po import optimal_value
from jaxpref.types import Refused


def _pair(seed, rows=8):
  rng = np.random.default_rng(seed)
  logp, ref = rng.normal(-20.0, 4.0, (2, rows, 2)).astype(np.float32)
  first = (rng.random(rows) < 0.5).astype(np.float32)
  return jnp.asarray(logp), jnp.asarray(ref), jnp.asarray(np.stack([first, 1 - first], 1))


@pytest.mark.parametrize("alpha", [0.0, 1e-5, 0.3])
@pytest.mark.parametrize("fn", [xpo, xpo_ipo])
def test_xpo_equals_the_definition(fn, alpha):
  wanted = getattr(definitions_lists, fn.__name__)(*_pair(0), beta=0.2, alpha=alpha)
  loss, metrics = fn(*_pair(0), beta=0.2, alpha=alpha)
  np.testing.assert_allclose(loss, wanted, rtol=2e-5, atol=1e-5)
  total = metrics["xpo/preference"] + metrics["xpo/optimism"]
  np.testing.assert_allclose(loss, total, rtol=1e-6)


@pytest.mark.parametrize(("fn", "offline"), [(xpo, dpo), (xpo_ipo, ipo_sum)])
def test_without_a_bonus_xpo_is_the_offline_loss_winner_first(fn, offline):
  logp, ref, won = _pair(1)
  first = np.asarray(won[:, :1] > 0)
  order = lambda x: jnp.where(first, x, x[:, ::-1])
  loss, metrics = fn(logp, ref, won, alpha=0.0)
  wanted, pair = offline(order(logp), order(ref))
  np.testing.assert_allclose(loss, wanted, rtol=1e-6)
  for name in ("rewards/margins", "rewards/accuracies", "logps/chosen"):
    np.testing.assert_allclose(metrics[name], pair[name], rtol=1e-5)
  np.testing.assert_array_equal(metrics["xpo/wins"], first[:, 0])


def test_the_bonus_only_pushes_the_references_sample_down():
  logp, ref, won = _pair(2)
  slope = lambda alpha: jax.grad(lambda x: xpo(x, ref, won, alpha=alpha)[0].sum())(logp)
  more = np.tile([0.0, 0.25], (8, 1))
  np.testing.assert_allclose(slope(0.25) - slope(0.0), more, atol=1e-6)


def test_a_tie_is_a_win_of_the_policy():
  logp, ref, _ = _pair(3)
  tie, win = (xpo(logp, ref, jnp.tile(jnp.asarray(r), (8, 1)))[0] for r in ([1.0, 1], [1.0, 0]))
  np.testing.assert_array_equal(tie, win)


def _tokens(seed, rows=5, length=7):
  rng = np.random.default_rng(seed)
  own, ref = -rng.gamma(2.0, 0.5, (2, rows, 1, length)).astype(np.float32)
  mask = (np.arange(length) < rng.integers(1, length + 1, (rows, 1, 1))).astype(np.float32)
  mask[-1] = 0
  return [jnp.asarray(x, jnp.float32) for x in (own, ref, mask, rng.random(rows))]


@pytest.mark.parametrize("beta", [0.0, 0.1, 2.0])
def test_nash_md_equals_the_definition_and_an_empty_response_is_zero(beta):
  arrays = _tokens(4)
  loss, metrics = nash_md(*arrays, beta=beta)
  np.testing.assert_allclose(loss, definitions_lists.nash_md(*arrays, beta=beta), rtol=2e-5)
  assert loss[-1] == 0 and metrics["nash_md/log_ratio"][-1] == 0


def test_nash_md_ignores_what_stands_outside_the_mask():
  own, ref, mask, prob = _tokens(5)
  run = lambda x, r: jax.value_and_grad(lambda y: nash_md(y, r, mask, prob)[0].sum())(x)
  value, grad = run(own, ref)
  other, slope = run(jnp.where(mask > 0, own, jnp.nan), jnp.where(mask > 0, ref, jnp.inf))
  np.testing.assert_allclose(other, value, rtol=1e-6)
  np.testing.assert_allclose(slope, grad, rtol=1e-6)
  np.testing.assert_array_equal(grad * (1 - mask), 0.0)


def test_nash_md_gradient_is_the_win_probability_less_the_log_ratio():
  own, ref, mask, prob = _tokens(6)
  grad = jax.grad(lambda x: nash_md(x, ref, mask, prob, beta=0.3)[0].sum())(own)
  wanted = (0.3 * (own - ref) - (prob - 0.5)[:, None, None]) * mask
  np.testing.assert_allclose(grad, wanted, rtol=1e-5, atol=1e-6)
  even = jax.grad(lambda x: nash_md(x, own, mask, 0 * prob + 0.5)[0].sum())(own)
  np.testing.assert_array_equal(even, 0.0)


def _rewards(seed, k=4, rows=6):
  rng = np.random.default_rng(seed)
  logp, ref = rng.normal(-20.0, 4.0, (2, rows, k)).astype(np.float32)
  reward = rng.random((rows, k)).astype(np.float32)
  present = np.ones((rows, k), np.float32)
  present[1, 2:], present[2, 0] = 0, 0
  return tuple(map(jnp.asarray, (logp, ref, reward, present)))


@pytest.mark.parametrize("beta", [1e-3, 0.2])
@pytest.mark.parametrize("k", [1, 4])
def test_a2po_equals_the_definition(beta, k):
  logp, ref, reward, _ = _rewards(7, k=4)
  arrays = [x[:, :k] for x in (logp, ref, reward)] + [jnp.linspace(0.0, 1.0, 6)]
  wanted = definitions_lists.a2po(*arrays, beta=beta)
  np.testing.assert_allclose(a2po(*arrays, beta=beta)[0], wanted, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("beta", [0.05, 0.5, 10.0])
def test_optimal_value_equals_the_definition_and_lies_between_mean_and_maximum(beta):
  *_, reward, present = _rewards(8)
  value = optimal_value(reward, present, beta=beta)
  wanted = definitions_lists.optimal_value(reward, present, beta=beta)
  np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-5)
  there = np.where(np.asarray(present) > 0, reward, np.nan)
  assert (value >= np.nanmean(there, 1) - 1e-4).all() and (
    value <= np.nanmax(there, 1) + 1e-5
  ).all()


def test_the_value_tends_to_the_mean_and_to_the_maximum():
  *_, reward, _ = _rewards(9)
  every = jnp.ones_like(reward)
  np.testing.assert_allclose(optimal_value(reward, every, beta=1e2), reward.mean(1), atol=2e-3)
  np.testing.assert_allclose(optimal_value(reward, every, beta=1e-4), reward.max(1), atol=2e-3)
  np.testing.assert_array_equal(optimal_value(reward, 0 * every), 0.0)


def test_offline_it_is_a2po_with_the_value_of_the_list_and_ignores_absent_candidates():
  logp, ref, reward, present = _rewards(10)
  loss, metrics = a2po_offline(logp, ref, reward, present, beta=0.1, value_beta=0.3)
  plain = a2po(logp, ref, reward, optimal_value(reward, present, beta=0.3), beta=0.1)[0]
  np.testing.assert_allclose(loss, plain * present, rtol=1e-5, atol=1e-6)
  wild = [jnp.where(present > 0, x, jnp.nan) for x in (logp, ref, reward)]
  run = lambda x, *rest: a2po_offline(x, *rest, present, beta=0.1, value_beta=0.3)[0].sum()
  value, grad = jax.value_and_grad(run)(*wild)
  own, slope = jax.value_and_grad(run)(logp, ref, reward)
  np.testing.assert_allclose(value, own, rtol=1e-6)
  np.testing.assert_allclose(grad, slope, rtol=1e-6)
  assert metrics["a2po/advantage"].shape == (6, 4)


def test_the_optimal_policy_has_no_loss():
  *_, ref, reward, _ = _rewards(11)
  value = optimal_value(reward, jnp.ones_like(reward), beta=0.5)
  best = ref + (reward - value[:, None]) / 0.5
  np.testing.assert_allclose(a2po(best, ref, reward, value, beta=0.5)[0], 0.0, atol=1e-10)


def test_degree_loss_worked_values_of_the_card():
  assert f"{spo_degree(jnp.zeros((1, 4)), jnp.asarray([2]))[0][0]:.6f}" == "1.386294"
  logits = jnp.asarray([[2.0, 0.0, 0.0, 0.0]])
  loss, metrics = spo_degree(logits, jnp.asarray([0]))
  assert f"{loss[0]:.6f}" == "0.340753" and metrics["degree/accuracies"][0] == 1
  assert spo_degree(logits, jnp.asarray([3]))[1]["degree/accuracies"][0] == 0


def test_degree_loss_of_a_sure_class_keeps_its_small_value():
  loss, _ = spo_degree(jnp.asarray([[30.0, 0.0]]), jnp.asarray([0]))
  np.testing.assert_allclose(loss, np.exp(-30.0), rtol=1e-5)
  np.testing.assert_array_equal(spo_degree(jnp.zeros((1, 3)), jnp.asarray([9]))[0],
                                spo_degree(jnp.zeros((1, 3)), jnp.asarray([2]))[0])  # fmt: skip


def test_wrong_knobs_and_candidates_are_refused():
  with pytest.raises(Refused, match="xpo needs alpha >= 0; it is -1"):
    xpo(*_pair(12), alpha=-1.0)
  with pytest.raises(Refused, match="xpo_ipo reads 2 candidates"):
    xpo_ipo(*(x[:, :1] for x in _pair(12)))
  with pytest.raises(Refused, match="nash_md needs beta >= 0"):
    nash_md(*_tokens(12), beta=-0.1)
  with pytest.raises(Refused, match="nash_md reads 1 candidate"):
    nash_md(*(jnp.tile(x, (1, 2, 1)) for x in _tokens(12)[:3]), jnp.ones(5))
  with pytest.raises(Refused, match="a2po needs beta > 0"):
    a2po(*_rewards(12)[:3], jnp.ones(6), beta=0.0)
  with pytest.raises(Refused, match="a2po_offline needs value_beta > 0"):
    a2po_offline(*_rewards(12), value_beta=0.0)
