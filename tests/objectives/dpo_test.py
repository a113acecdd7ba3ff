"""DPO and cDPO against their definitions, worked values and identities."""

import definitions
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import call
from jaxpref.objectives import cdpo, dpo
from jaxpref.types import Refused

WORKED = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])  # a = 1, b = -0.5, h = 1.5


def _pairs(seed, rows=6):
  logp, ref_logp = np.random.default_rng(seed).normal(-20.0, 4.0, (2, rows, 2)).astype(np.float32)
  return logp, ref_logp


@pytest.mark.parametrize("beta", [0.1, 2.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_dpo_equals_the_definition(beta, gamma):
  loss, _ = dpo(*_pairs(0), beta=beta, gamma=gamma)
  np.testing.assert_allclose(loss, definitions.dpo(*_pairs(0), beta, gamma), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.5])
def test_cdpo_equals_the_definition(label_smoothing):
  loss, _ = cdpo(*_pairs(1), label_smoothing=label_smoothing)
  wanted = definitions.cdpo(*_pairs(1), label_smoothing=label_smoothing)
  np.testing.assert_allclose(loss, wanted, rtol=1e-5)


def test_worked_values_of_the_catalogue():
  assert f"{dpo(*WORKED)[0][0]:.6f}" == "0.620957"
  assert f"{cdpo(*WORKED, label_smoothing=0.1)[0][0]:.6f}" == "0.635957"


@pytest.mark.parametrize(("c", "worked"), [(5.0, "0.474077"), (50.0, "0.006715"), (-5, "0.974077")])
def test_at_equal_likelihoods_the_loss_is_the_difficulty_of_the_pair(c, worked):
  ref_logp = jnp.asarray([[-20.0 - c, -20.0]])
  assert f"{dpo(jnp.full((1, 2), -9.0), ref_logp)[0][0]:.6f}" == worked


def test_policy_equal_to_the_reference_gives_log_two():
  logp, _ = _pairs(2)
  for fn in (dpo, cdpo):
    np.testing.assert_allclose(fn(logp, logp)[0], np.log(2), rtol=1e-6)


def test_gamma_one_is_dpo_to_the_last_bit():
  logp, ref_logp = map(jnp.asarray, _pairs(3, rows=200))
  reward = 0.1 * (logp - ref_logp)
  plain = jax.nn.softplus(-(reward[:, 0] - reward[:, 1]))
  np.testing.assert_array_equal(dpo(logp, ref_logp)[0], plain)
  np.testing.assert_array_equal(dpo(logp, ref_logp, gamma=1.0)[0], plain)


def test_gamma_zero_does_not_depend_on_the_reference():
  logp, ref_logp = _pairs(4)
  one, other = (dpo(logp, r, gamma=0.0) for r in (ref_logp, ref_logp * 3 + 7))
  np.testing.assert_array_equal(one[0], other[0])
  for name, value in one[1].items():
    np.testing.assert_array_equal(value, other[1][name])


def test_no_smoothing_is_dpo_and_half_is_even_in_the_margin():
  logp, ref_logp = _pairs(5)
  plain = dpo(logp, ref_logp)[0]
  np.testing.assert_array_equal(cdpo(logp, ref_logp, label_smoothing=0.0)[0], plain)
  half = cdpo(logp, ref_logp, label_smoothing=0.5)[0]
  swapped = cdpo(logp[:, ::-1], ref_logp[:, ::-1], label_smoothing=0.5)[0]
  np.testing.assert_allclose(half, swapped, rtol=1e-6)


def test_cdpo_is_smallest_where_the_probability_of_the_label_is_one_minus_smoothing():
  e = 0.2
  best = np.log((1 - e) / e) / 0.1  # beta h with s(beta h) = 1 - e
  margin = lambda h: jnp.asarray([[h, 0.0]], jnp.float32)
  slope = jax.grad(lambda x: cdpo(x, jnp.zeros((1, 2)), label_smoothing=e)[0].sum())
  assert abs(slope(margin(best))[0, 0]) < 1e-6
  assert slope(margin(best - 1))[0, 0] < 0 < slope(margin(best + 1))[0, 0]


def test_gradient_is_beta_times_the_probability_of_the_wrong_order():
  logp, ref_logp = map(jnp.asarray, _pairs(6))
  grad = jax.grad(lambda x: dpo(x, ref_logp, beta=0.3)[0].sum())(logp)
  h = np.float64(logp[:, 0] - ref_logp[:, 0] - logp[:, 1] + ref_logp[:, 1])
  wrong = 0.3 / (1 + np.exp(0.3 * h))
  np.testing.assert_allclose(grad, np.stack([-wrong, wrong], 1), rtol=1e-4, atol=1e-6)


def test_small_beta_pushes_both_responses_by_half_of_beta():
  logp, ref_logp = map(jnp.asarray, _pairs(7))
  grad = jax.grad(lambda x: dpo(x, ref_logp, beta=1e-6)[0].sum())(logp) / 1e-6
  np.testing.assert_allclose(grad, np.tile([-0.5, 0.5], (6, 1)), rtol=1e-4)


def test_swapping_both_responses_flips_the_margin():
  logp, ref_logp = _pairs(8)
  margin = dpo(logp, ref_logp)[1]["rewards/margins"]
  swapped = dpo(logp[:, ::-1], ref_logp[:, ::-1])[1]["rewards/margins"]
  np.testing.assert_allclose(margin, -swapped, rtol=1e-6)


def test_a_constant_added_to_both_log_probabilities_changes_nothing():
  logp, ref_logp = _pairs(9)
  np.testing.assert_allclose(dpo(logp + 8, ref_logp)[0], dpo(logp, ref_logp)[0], rtol=1e-4)


def test_reported_rewards_and_accuracy_count_ties_as_wrong():
  logp = jnp.asarray([[-10.0, -12.0], [-5.0, -5.0], [-7.0, -6.0]])
  _, metrics = dpo(logp, jnp.full((3, 2), -6.0), beta=0.5)
  np.testing.assert_allclose(metrics["rewards/chosen"], [-2.0, 0.5, -0.5])
  np.testing.assert_allclose(metrics["rewards/rejected"], [-3.0, 0.5, 0.0])
  np.testing.assert_array_equal(metrics["rewards/accuracies"], [1, 0, 0])
  np.testing.assert_array_equal(metrics["logps/rejected"], logp[:, 1])


@pytest.mark.parametrize("gap", [-1e6, 1e6])
def test_a_huge_margin_gives_its_exact_linear_or_zero_loss(gap):
  logp = jnp.asarray([[gap, 0.0]], jnp.float32)
  loss, grad = jax.value_and_grad(lambda x: dpo(x, jnp.zeros((1, 2)))[0].sum())(logp)
  np.testing.assert_allclose(loss, max(0.0, -0.1 * gap), rtol=1e-6)
  np.testing.assert_allclose(grad[0], [0, 0] if gap > 0 else [-0.1, 0.1], rtol=1e-6)


def test_four_thousand_tiny_token_differences_keep_the_sign_of_the_margin():
  noise = np.random.default_rng(10).normal(0.0, 1e-3, (1, 2, 4096))
  exact = noise.sum(2)
  logp = jnp.asarray(noise, jnp.float32).sum(2)
  margin = dpo(logp, jnp.zeros((1, 2)))[1]["rewards/margins"]
  assert np.sign(margin[0]) == np.sign(exact[0, 0] - exact[0, 1])


def test_wrong_knobs_are_refused_by_name_and_range():
  with pytest.raises(Refused, match="no hyperparameter 'betta'. Did you mean 'beta'"):
    call.bind(dpo, betta=0.1)
  with pytest.raises(Refused, match="dpo needs beta > 0; it is -0.1"):
    dpo(*WORKED, beta=-0.1)
  with pytest.raises(Refused, match="label_smoothing from 0 to 0.5; it is 0.7"):
    cdpo(*WORKED, label_smoothing=0.7)


def test_one_or_three_candidates_are_refused():
  with pytest.raises(Refused, match=r"dpo reads 2 candidates.*logp has shape \(4, 3\)"):
    dpo(jnp.zeros((4, 3)), jnp.zeros((4, 3)))
  with pytest.raises(Refused, match=r"cdpo reads 2 candidates.*ref_logp has shape \(4, 1\)"):
    cdpo(jnp.zeros((4, 2)), jnp.zeros((4, 1)))
