"""What pair objectives with a reference must keep: limits, minima, equalities between them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import numerics, objectives
from jaxpref.objectives import cdpo, dpo, exo_pair, hinge, nca_pair, rdpo_robust

ZERO = jnp.zeros((1, 2))


def _pairs(seed, rows=6):
  logp, ref_logp = np.random.default_rng(seed).normal(-20.0, 4.0, (2, rows, 2)).astype(np.float32)
  return jnp.asarray(logp), jnp.asarray(ref_logp)


def _slope(fn, a, b=0.0):
  """(dL/da, dL/db) of one pair with these log-ratios."""
  return jax.grad(lambda x: fn(x, ZERO)[0].sum())(jnp.asarray([[a, b]], jnp.float32))[0]


def _same(fn, other, logp, ref_logp):
  """Equal values and gradients."""
  np.testing.assert_allclose(fn(logp, ref_logp)[0], other(logp, ref_logp)[0], rtol=1e-6)
  grads = [jax.grad(lambda x, f=f: f(x, ref_logp)[0].sum())(logp) for f in (fn, other)]
  np.testing.assert_allclose(*grads, rtol=1e-5, atol=1e-8)


def test_robust_without_flips_is_dpo():
  _same(functools.partial(rdpo_robust, label_smoothing=0.0), dpo, *_pairs(0))


@pytest.mark.parametrize("e", [0.05, 0.3, 0.45])
def test_robust_is_dpo_on_average_over_flipped_labels(e):
  logp, ref_logp = _pairs(1)
  right = rdpo_robust(logp, ref_logp, label_smoothing=e)[0]
  flipped = rdpo_robust(logp[:, ::-1], ref_logp[:, ::-1], label_smoothing=e)[0]
  wanted = dpo(logp, ref_logp)[0]
  np.testing.assert_allclose((1 - e) * right + e * flipped, wanted, rtol=1e-4)
  assert (np.abs(right - wanted) > 1e-3).any()


def test_robust_can_be_negative():
  loss, _ = rdpo_robust(jnp.asarray([[100.0, 0.0]]), ZERO, label_smoothing=0.3)
  np.testing.assert_allclose(loss, -0.3 * 10 / 0.4, rtol=1e-3)


def test_exo_grows_without_bound_as_smoothing_goes_to_zero():
  losses = [exo_pair(ZERO, ZERO, label_smoothing=10.0**-k)[0][0] for k in (1, 3, 6, 9)]
  np.testing.assert_allclose(np.diff(losses[1:]), 1.5 * np.log(10), rtol=1e-3)


@pytest.mark.parametrize("e", [1e-3, 0.2])
def test_exo_and_cdpo_are_smallest_at_the_same_margin_and_exo_is_zero_there(e):
  best = float(np.log((1 - e) / e) / 0.1)
  exo = functools.partial(exo_pair, label_smoothing=e)
  assert abs(exo(jnp.asarray([[best, 0.0]]), ZERO)[0][0]) < 1e-6
  for fn in (exo, functools.partial(cdpo, label_smoothing=e)):
    np.testing.assert_allclose(_slope(fn, best), 0.0, atol=2e-7)
    assert _slope(fn, best - 3)[0] < 0 < _slope(fn, best + 3)[0]


def test_exo_is_the_reverse_and_cdpo_the_forward_divergence():
  (logp, ref_logp), e = _pairs(2), 0.2
  q = 1 / (1 + np.exp(-np.float64(dpo(logp, ref_logp)[1]["rewards/margins"])))
  model, label = np.stack([q, 1 - q]), np.asarray([[1 - e], [e]])
  reverse = (model * np.log(model / label)).sum(0)
  forward = (label * np.log(label / model)).sum(0)
  entropy = -(label * np.log(label)).sum()
  np.testing.assert_allclose(exo_pair(logp, ref_logp, label_smoothing=e)[0], reverse, rtol=1e-5)
  ours = cdpo(logp, ref_logp, label_smoothing=e)[0] - entropy
  np.testing.assert_allclose(ours, forward, rtol=1e-4, atol=1e-6)


def test_hinge_is_flat_beyond_a_margin_of_one_and_pushes_equally_below():
  fn = functools.partial(hinge, beta=0.5)
  np.testing.assert_array_equal(_slope(fn, 2.1), [0, 0])
  for a in (1.9, 0.0, -500.0):
    np.testing.assert_allclose(_slope(fn, a), [-0.5, 0.5])


def test_apo_zero_stops_pushing_far_away_on_both_sides_and_dpo_only_on_one():
  s = lambda z: 1 / (1 + np.exp(-z))
  for a in (-7.0, 0.0, 3.0):
    wanted = -0.1 * s(0.1 * a) * (1 - s(0.1 * a))
    np.testing.assert_allclose(_slope(objectives.apo_zero, a)[0], wanted, rtol=1e-5)
  for a in (-300.0, 300.0):
    assert abs(_slope(objectives.apo_zero, a)[0]) < 1e-8
  np.testing.assert_allclose(_slope(dpo, -300.0)[0], -0.1, rtol=1e-6)
  for a in (-7.0, 0.0, 3.0):
    np.testing.assert_allclose(_slope(dpo, a), 0.1 * s(-0.1 * a) * np.asarray([-1, 1]), rtol=1e-5)


def test_apo_down_pushes_the_preferred_response_down_at_the_start_of_training():
  up, down = _slope(objectives.apo_zero, 0.0), _slope(objectives.apo_down, 0.0)
  assert up[0] < 0 < up[1]
  np.testing.assert_allclose(down, [0.1 * 0.25 - 0.1 * 0.25, 0.1 * 0.25], atol=1e-7)
  assert _slope(objectives.apo_down, 0.0, -8.0)[0] > 0


@pytest.mark.parametrize("b", [-30.0, 0.0, 30.0])
def test_nca_draws_the_preferred_reward_to_log_two_whatever_the_other_is(b):
  fn = functools.partial(nca_pair, beta=0.1)
  best = np.log(2) / 0.1
  assert abs(_slope(fn, best, b)[0]) < 1e-7
  for a in (best - 3, best + 3):
    wanted = -0.1 * (1 - 1.5 / (1 + np.exp(-0.1 * a)))
    np.testing.assert_allclose(_slope(fn, a, b)[0], wanted, rtol=1e-4)


def test_nca_of_two_responses_is_the_listwise_formula_with_a_hard_label():
  logp, ref_logp = _pairs(3)
  r = 0.3 * (np.float64(logp) - np.float64(ref_logp))
  ls = lambda z: -np.logaddexp(0.0, -z)
  wanted = -ls(-r).mean(1) - ls(r) @ np.asarray([1.0, 0.0])
  np.testing.assert_allclose(nca_pair(logp, ref_logp, beta=0.3)[0], wanted, rtol=1e-5)
  infonca = np.log(np.exp(r).sum(1)) - r[:, 0]
  np.testing.assert_allclose(dpo(logp, ref_logp, beta=0.3)[0], infonca, rtol=1e-4, atol=1e-6)


def test_biased_nca_is_bco_and_bco_bounds_dpo_from_above():
  logp, ref_logp = _pairs(4, rows=50)
  one, other = (objectives.nca_biased, objectives.bco_pair)
  np.testing.assert_array_equal(
    one(logp, ref_logp, beta=0.2)[0], other(logp, ref_logp, beta=0.2)[0]
  )
  assert (other(logp, ref_logp)[0] >= dpo(logp, ref_logp)[0]).all()


def test_discopop_is_logistic_far_below_and_exponential_far_above_zero():
  below, above = jnp.asarray([[-10.0, 0.0]]), jnp.asarray([[10.0, 0.0]])  # z = -1 and 1, t = 0.05
  np.testing.assert_allclose(objectives.discopop(below, ZERO)[0], dpo(below, ZERO)[0], rtol=1e-6)
  np.testing.assert_allclose(objectives.discopop(above, ZERO)[0], np.exp(-1.0), rtol=1e-6)


def test_discopop_is_not_convex():
  slopes = [float(_slope(objectives.discopop, z / 0.1)[0]) for z in (-0.5, 0.0, 0.5)]
  assert slopes[0] < 0 < slopes[1] and slopes[2] < 0


def test_the_squared_targets_of_sppo():
  logp, ref_logp = _pairs(5)
  win = jnp.tile(jnp.asarray([1.0, 0.0]), (6, 1))
  soft = objectives.sppo(logp, ref_logp, win, beta=0.05)[0]
  np.testing.assert_allclose(
    soft, objectives.sppo_hard(logp, ref_logp, beta=0.05)[0] / 2, rtol=1e-6
  )
  best = jnp.asarray([[10.0, -10.0]])  # 1 / (2 beta)
  assert objectives.sppo_hard(best, ZERO, beta=0.05)[0][0] == 0
  assert objectives.sppo(best * 0.4, ZERO, jnp.asarray([[0.7, 0.3]]), beta=0.05)[0][0] < 1e-10


def test_dpop_is_dpo_where_the_preferred_response_gained():
  logp, ref_logp = _pairs(6, rows=50)
  gained = (logp - ref_logp)[:, 0] >= 0
  assert gained.any() and not gained.all()
  dpop = functools.partial(objectives.dpop, beta=0.1)
  _same(dpop, dpo, logp[gained], ref_logp[gained])
  assert (dpop(logp, ref_logp)[0] > dpo(logp, ref_logp)[0])[~gained].all()
  _same(functools.partial(dpop, penalty=0.0), dpo, logp, ref_logp)
  np.testing.assert_array_equal(dpop(logp, ref_logp)[1]["penalised"], ~gained)


def test_length_terms_vanish_at_equal_lengths():
  logp, ref_logp = _pairs(7)
  length = jnp.full((6, 2), 9.0)
  _same(lambda p, r: objectives.rdpo_length(p, r, length, alpha=0.5), dpo, logp, ref_logp)
  norm = lambda p, r: objectives.dpo_norm(p, r, length, beta=0.9)
  _same(norm, dpo, logp, ref_logp)


def test_a_longer_preferred_response_gets_less_gradient_from_rdpo():
  slope = lambda n: _slope(
    lambda x, r: objectives.rdpo_length(x, r, jnp.asarray([n]), alpha=0.05), 1.0
  )
  longer, equal, shorter = (abs(slope(n)[0]) for n in ([30.0, 10.0], [10.0, 10.0], [10.0, 30.0]))
  assert longer < equal < shorter


def test_wpo_with_weight_one_is_dpo_and_its_weight_has_no_gradient():
  logp, ref_logp = _pairs(8)
  fn = lambda n: lambda p, r: objectives.wpo_length(p, r, jnp.full((6, 2), n), beta=0.1)
  _same(fn(1e9), dpo, logp, ref_logp)
  weight = fn(30.0)(logp, ref_logp)[1]["pair_weight"]
  np.testing.assert_allclose(weight, np.exp(np.float64(logp).sum(1) / 30), rtol=1e-5)
  _same(fn(30.0), lambda p, r: (weight * dpo(p, r)[0], {}), logp, ref_logp)


def test_an_empty_response_has_log_ratio_zero_in_the_length_objectives():
  logp, ref_logp = jnp.asarray([[0.0, -12.0]]), jnp.asarray([[0.0, -11.5]])
  length = jnp.asarray([[0.0, 24.0]])
  for fn in (objectives.dpo_norm, objectives.rdpo_length, objectives.wpo_length):
    loss, grad = jax.value_and_grad(lambda x, f=fn: f(x, ref_logp, length)[0].sum())(logp)
    assert np.isfinite(loss) and np.isfinite(grad).all() and grad[0, 1] > 0
  np.testing.assert_allclose(
    objectives.dpo_norm(logp, ref_logp, length)[0], np.log1p(np.exp(-5 * 0.5 / 24)), rtol=1e-5
  )


def test_cal_dpo_is_dpo_without_beta_and_half_of_sppo_hard():
  logp, ref_logp = _pairs(9)
  parts = dpo(logp, ref_logp, beta=1.0)[0] + 0.5 * objectives.sppo_hard(logp, ref_logp, beta=0.1)[0]
  np.testing.assert_allclose(objectives.cal_dpo(logp, ref_logp, beta=0.1)[0], parts, rtol=1e-6)


def test_offsets_of_zero_are_dpo_and_larger_ones_ask_for_more():
  logp, ref_logp = _pairs(10)
  reward = jnp.tile(jnp.asarray([3.0, 2.0]), (6, 1))  # a gap of 1: its logarithm is 0
  _same(lambda p, r: objectives.odpo(p, r, reward), dpo, logp, ref_logp)
  _same(lambda p, r: objectives.odpo(p, r, 5 * reward, alpha=0.0), dpo, logp, ref_logp)
  _same(lambda p, r: objectives.margin_dpo(p, r, jnp.zeros(6)), dpo, logp, ref_logp)
  more = objectives.odpo(logp, ref_logp, 5 * reward)[0]
  wanted = objectives.margin_dpo(logp, ref_logp, jnp.full(6, np.log(5)))[0]
  np.testing.assert_allclose(more, wanted, rtol=1e-5)
  assert (more > dpo(logp, ref_logp)[0]).all()


def test_a_tie_of_ratings_counts_for_almost_nothing_and_stays_finite():
  logp, reward = jnp.asarray([[-9.0, -8.0], [-9.0, -8.0]]), jnp.asarray([[1.0, 1.0], [0.0, 4.0]])
  loss, metrics = objectives.odpo(logp, logp, reward)
  np.testing.assert_allclose(metrics["offset"], np.log(1e-6), rtol=1e-6)
  assert (loss < 1e-5).all() and (loss > 0).all()


def test_spin_is_dpo_or_hinge_to_the_last_bit():
  logp, ref_logp = _pairs(11)
  one = objectives.spin(logp, ref_logp)[0]
  np.testing.assert_array_equal(one, dpo(logp, ref_logp)[0])
  other = objectives.spin(logp, ref_logp, link="hinge")[0]
  np.testing.assert_array_equal(other, hinge(logp, ref_logp)[0])


def test_rebel_does_not_ask_which_response_is_preferred_and_is_zero_at_its_target():
  logp, ref_logp = _pairs(12)
  reward = jnp.asarray(np.random.default_rng(0).normal(size=(6, 2)), jnp.float32)
  loss = objectives.rebel(logp, ref_logp, reward, eta=2.0)[0]
  swapped = objectives.rebel(logp[:, ::-1], ref_logp[:, ::-1], reward[:, ::-1], eta=2.0)[0]
  np.testing.assert_allclose(loss, swapped, rtol=1e-5)
  best = ref_logp + 2.0 * reward
  np.testing.assert_allclose(objectives.rebel(best, ref_logp, reward, eta=2.0)[0], 0, atol=1e-9)


def test_inpo_is_ipo_where_one_of_its_two_anchors_is_left():
  (logp, ref_logp), (old_logp, _) = _pairs(13), _pairs(14)
  wanted = objectives.ipo_sum(logp, ref_logp, beta=0.2)[0]
  one = objectives.inpo(logp, ref_logp, old_logp, eta=0.2, tau=0.2)[0]
  np.testing.assert_allclose(one, wanted, rtol=1e-4)
  wanted = objectives.ipo_sum(logp, old_logp, beta=0.2)[0]
  other = objectives.inpo(logp, ref_logp, old_logp, eta=0.2, tau=0.0)[0]
  np.testing.assert_allclose(other, wanted, rtol=1e-4)


def test_step_dpo_is_dpo_with_masks():
  """Two steps are shared, the third differs: only its tokens count, and only they get gradient."""
  rng = np.random.default_rng(15)
  tokens, ref = rng.normal(-2.0, 0.5, (2, 3, 2, 9)).astype(np.float32)
  tokens[:, 1, :6], ref[:, 1, :6] = tokens[:, 0, :6], ref[:, 0, :6]  # the shared prefix
  mask = np.zeros((3, 2, 9), np.float32)
  mask[:, :, 6:] = 1
  fn = lambda x: dpo((x * mask).sum(2), (ref * mask).sum(2), beta=0.5)[0]
  h = np.float64(tokens - ref)[:, :, 6:].sum(2)
  wanted = np.log1p(np.exp(-0.5 * (h[:, 0] - h[:, 1])))
  np.testing.assert_allclose(fn(tokens), wanted, rtol=1e-5)
  grad = jax.grad(lambda x: fn(x).sum())(jnp.asarray(tokens))
  assert (grad[:, :, :6] == 0).all() and (grad[:, :, 6:] != 0).all()


def test_steady_sums_keep_the_sign_of_the_margin_of_4096_tokens():
  """Catalogue 1, section 2, identity 12: a running sum in float32 turns some margins round."""
  rng = np.random.default_rng(16)
  ref = -rng.gamma(2.0, 2.0, (60, 2, 4096)).astype(np.float32)
  logp = ref + rng.normal(0.0, 1e-3, ref.shape).astype(np.float32)
  sums = lambda add, x: jnp.asarray(add(x), jnp.float32)
  exact = (np.float64(logp) - np.float64(ref)).sum(2)
  h = exact[:, 0] - exact[:, 1]
  sure = np.abs(h) > 4 * np.spacing(np.float32(16384))  # four sums, each within half a unit
  assert sure.sum() > 40
  margin = lambda add: dpo(sums(add, logp), sums(add, ref))[1]["rewards/margins"]
  np.testing.assert_array_equal(np.sign(margin(numerics.steady_sum))[sure], np.sign(h)[sure])
  plain = margin(lambda x: np.cumsum(x, -1, dtype=np.float32)[..., -1])
  assert (np.sign(plain) != np.sign(h))[sure].any()
