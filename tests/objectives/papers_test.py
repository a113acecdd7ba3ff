"""Objectives of single papers: the identities and worked values of their cards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from definitions import log_sigmoid

from jaxpref import objectives
from jaxpref.numerics import skew, unit
from jaxpref.objectives.contrastive import sinkhorn
from jaxpref.types import Refused


def _logps(seed, k=2, b=5):
  return -np.random.default_rng(seed).gamma(4.0, 5.0, (4, b, k)).astype(np.float32)


def test_dove_of_one_instruction_is_dpo_with_its_gradients():
  logp, ref, prompt, ref_prompt = _logps(0)
  prompt, ref_prompt = (np.repeat(x[:, :1], 2, 1) for x in (prompt, ref_prompt))
  joint = lambda x: objectives.dove(x, ref, prompt, ref_prompt)[0]
  plain = lambda x: objectives.dpo(x, ref)[0]
  np.testing.assert_allclose(joint(logp), plain(logp), rtol=1e-5)
  for one, other in ((joint, plain),):
    grads = [jax.grad(lambda x, f=f: f(x).sum())(jnp.asarray(logp)) for f in (one, other)]
    np.testing.assert_allclose(*grads, rtol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_dove_equals_its_definition(weight):
  logp, ref, prompt, ref_prompt = _logps(1)
  joint = np.float64(logp - ref) + weight * np.float64(prompt - ref_prompt)
  wanted = -log_sigmoid(0.3 * (joint[:, 0] - joint[:, 1]))
  found = objectives.dove(logp, ref, prompt, ref_prompt, beta=0.3, prompt_weight=weight)[0]
  np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_dove_at_the_reference_is_log_two():
  logp, _, prompt, _ = _logps(2)
  np.testing.assert_allclose(objectives.dove(logp, logp, prompt, prompt)[0], np.log(2), rtol=1e-6)


def _vectors(seed, d=6, b=5):
  return np.random.default_rng(seed).normal(size=(b, 2, d)).astype(np.float32)


def test_the_form_is_antisymmetric_linear_and_blind_to_common_rotations():
  v, w = np.moveaxis(_vectors(3), 1, 0)
  np.testing.assert_allclose(skew(v, w), -skew(w, v))
  np.testing.assert_allclose(skew(v, v), 0.0, atol=1e-6)
  np.testing.assert_allclose(skew(3 * v, w), 3 * skew(v, w), rtol=1e-5)
  turn = np.exp(1j * 0.7)
  rotated = [
    np.stack([z.real, z.imag], -1).reshape(x.shape)
    for x in (v, w)
    for z in [(x[:, 0::2] + 1j * x[:, 1::2]) * turn]
  ]
  np.testing.assert_allclose(skew(*rotated), skew(v, w), rtol=1e-4, atol=1e-5)


def test_three_unit_vectors_can_form_a_cycle():
  angles = np.deg2rad([0.0, 120.0, 240.0])
  v = np.stack([np.cos(angles), np.sin(angles)], -1)
  links = skew(v, np.roll(v, -1, 0))
  np.testing.assert_allclose(links, 0.866025, atol=1e-6)


def test_any_skew_matrix_can_be_embedded():
  rng = np.random.default_rng(4)
  table = rng.normal(size=(4, 4))
  table = table - table.T
  planes = np.stack([np.eye(4), -table / 2], -1).reshape(4, 8)
  np.testing.assert_allclose(skew(planes[:, None], planes[None]), table, rtol=1e-5, atol=1e-6)


def test_general_preference_of_score_and_one_is_bradley_terry():
  score = np.random.default_rng(5).normal(size=(6, 2)).astype(np.float32)
  planes = np.stack([score, np.ones_like(score)], -1)
  one = objectives.general_preference(planes, tau=1.0)[0]
  np.testing.assert_allclose(one, objectives.bradley_terry(score)[0], rtol=1e-5)


def test_a_gate_of_ones_and_a_margin_of_zero_change_nothing():
  pair = _vectors(6)
  plain = objectives.general_preference(pair)[0]
  gate, zero = np.ones((5, 3), np.float32), np.zeros(5, np.float32)
  np.testing.assert_array_equal(objectives.general_preference_gated(pair, gate)[0], plain)
  np.testing.assert_array_equal(objectives.general_preference_margin(pair, zero)[0], plain)
  with pytest.raises(Refused, match="one weight per plane"):
    objectives.general_preference_gated(pair, gate[:, :2])
  with pytest.raises(Refused, match="E even; E is 5"):
    objectives.general_preference(pair[..., :5])


def test_the_gradient_of_general_preference_is_that_of_the_card():
  pair, tau = _vectors(7), 0.5
  grad = jax.grad(lambda e: objectives.general_preference(e, tau=tau)[0].sum())(jnp.asarray(pair))
  v, w = np.moveaxis(np.float64(pair), 1, 0)
  s = (v[:, 0::2] * w[:, 1::2] - v[:, 1::2] * w[:, 0::2]).sum(-1) / tau
  wanted = np.stack([w[:, 1::2], -w[:, 0::2]], -1).reshape(w.shape)
  wanted = -(1 - 1 / (1 + np.exp(-s)))[:, None] / tau * wanted
  np.testing.assert_allclose(grad[:, 0], wanted, rtol=1e-4, atol=1e-6)


def test_gpo_is_least_at_the_reference_where_scores_are_zero_and_where_it_fits():
  logp, ref, _, _ = _logps(8, k=3)
  fn = lambda x, s: objectives.gpo(x, ref, s, beta=0.1)[0]
  zero = np.zeros_like(ref)
  np.testing.assert_array_equal(fn(ref, zero), 0.0)
  score = np.random.default_rng(9).normal(size=ref.shape).astype(np.float32)
  np.testing.assert_allclose(fn(ref + score / 0.1, score), 0.0, atol=1e-6)
  wanted = 0.5 * ((np.float64(logp) - ref - np.float64(score) / 0.1) ** 2).sum(1)
  np.testing.assert_allclose(fn(logp, score), wanted, rtol=1e-5)


def _rationale(seed):
  logp, ref, _, _ = _logps(seed, k=3)
  return logp, ref, np.random.default_rng(seed).integers(30, 40, logp.shape).astype(np.float32)


def test_a_rationale_of_no_weight_leaves_dpo():
  logp, ref, length = _rationale(10)
  plain = objectives.dpo(logp[:, :2], ref[:, :2])[0]
  linear = objectives.rationale_dpo_linear(logp, ref, length, gamma=0.0)[0]
  np.testing.assert_allclose(linear, plain, rtol=1e-6)
  squashed = objectives.rationale_dpo(logp, ref, length, gamma=0.0)[0]
  np.testing.assert_allclose(squashed, plain + np.log(2), rtol=1e-6)
  empty = length * np.asarray([1.0, 1.0, 0.0], np.float32)
  for fn in (objectives.rationale_dpo, objectives.rationale_dpo_linear):
    np.testing.assert_allclose(fn(logp, ref, empty)[0], plain, rtol=1e-6)


def test_worked_values_of_the_rationale_card():
  logp = jnp.asarray([[-3.0, -4.0, -10.0]])
  found = objectives.rationale_dpo(logp, logp, jnp.full((1, 3), 5.0))[0]
  assert f"{found[0]:.6f}" == "2.006409"
  at = lambda rho: (
    objectives.rationale_dpo(
      jnp.asarray([[-3.0, -3.0, 0.0]]).at[0, 2].set(rho),
      jnp.zeros((1, 3)),
      jnp.ones((1, 3)),
      gamma=1.0,
    )[0][0]
    - np.log(2)
  )
  assert f"{at(-2.0):.6f}" == "2.126928"
  np.testing.assert_allclose(jax.grad(at)(-2.0), -0.880797, rtol=1e-5)
  odds = objectives.rationale_orpo_linear(
    jnp.asarray([[-0.5, -1.0, 0.0]]), jnp.ones((1, 3)), beta=1.0
  )[0]
  assert f"{odds[0]:.6f}" == "0.320300"


def test_the_reference_of_a_rationale_is_not_read():
  logp, ref, length = _rationale(11)
  other = ref.copy()
  other[:, 2] += 5
  one, two = (objectives.rationale_dpo(logp, r, length)[0] for r in (ref, other))
  np.testing.assert_array_equal(one, two)


def test_the_sum_grows_with_the_rationale_and_the_mean_does_not():
  logp, ref, length = _rationale(12)
  twice = np.asarray([1.0, 1.0, 2.0], np.float32)
  nll = lambda a: objectives.rationale_nll(logp * a, length * a)[0]
  np.testing.assert_allclose(nll(twice), nll(1.0), rtol=1e-6)
  dpo = lambda a: objectives.rationale_dpo_linear(logp * a, ref, length * a)[0]
  np.testing.assert_allclose(dpo(twice) - dpo(1.0), -0.1 * logp[:, 2], rtol=1e-4)


def test_simcse_of_one_is_zero_and_of_equal_ones_log_b():
  view = np.random.default_rng(13).normal(size=(1, 2, 4))
  assert objectives.simcse(view)[0][0] == 0
  equal = np.repeat(np.repeat(view[:, :1], 2, 1), 6, 0)
  np.testing.assert_allclose(objectives.simcse(equal)[0], np.log(6), rtol=1e-5)


def test_sinkhorn_rows_sum_to_one_and_in_the_limit_columns_share_the_batch():
  near = np.random.default_rng(14).uniform(-1, 1, (12, 4)).astype(np.float32)
  few, many = (np.asarray(sinkhorn(jnp.asarray(near), 0.3, n)) for n in (1, 200))
  np.testing.assert_allclose(few.sum(1), 1.0, rtol=1e-5)
  np.testing.assert_allclose(many.sum(0), 3.0, rtol=1e-4)


def test_swav_of_one_prototype_is_zero_and_targets_have_no_gradient():
  views = jnp.asarray(np.random.default_rng(15).normal(size=(4, 2, 3)), jnp.float32)
  np.testing.assert_allclose(objectives.swav(views, jnp.ones((1, 3)))[0], 0.0, atol=1e-6)
  grad = jax.grad(lambda x: sinkhorn(x, 0.05, 3).sum())(jnp.ones((4, 2)))
  np.testing.assert_array_equal(grad, 0.0)


def test_unit_vectors_have_length_one_and_zero_stays():
  x = jnp.asarray([[3.0, 4.0], [0.0, 0.0], [1e30, 1e30]])
  np.testing.assert_allclose(jnp.linalg.norm(unit(x)[jnp.asarray([0, 2])], axis=-1), 1.0, rtol=1e-6)
  grad = jax.grad(lambda v: unit(v).sum())(x)
  assert jnp.isfinite(grad).all() and (grad[1] == 0).all()
