"""Grades of responses, attributes and steps: definitions, missing values, identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from definitions import log_sigmoid
from scipy.special import expit

from jaxpref import objectives
from jaxpref.types import Refused


def _bce(logit, p):
  logit, p = np.float64(logit), np.float64(p)
  return -p * log_sigmoid(logit) - (1 - p) * log_sigmoid(-logit)


def test_regression_leaves_out_missing_grades():
  rng = np.random.default_rng(0)
  parts, grades = rng.normal(size=(2, 5, 2, 3)).astype(np.float32)
  grades[rng.random(grades.shape) < 0.4] = np.nan
  grades[1, 0] = np.nan
  wanted = np.zeros((5, 2))
  for b, k in np.ndindex(5, 2):
    errors = [(s - g) ** 2 for s, g in zip(parts[b, k], grades[b, k], strict=True) if g == g]
    wanted[b, k] = np.mean(np.float64(errors)) if errors else 0.0
  loss, metrics = objectives.regression(parts, grades)
  np.testing.assert_allclose(loss, wanted, rtol=1e-5, atol=1e-7)
  value, count = metrics["mse"]
  np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-7)
  assert count[1, 0] == 0
  grad = jax.grad(lambda s: objectives.regression(s, grades)[0].sum())(jnp.asarray(parts))
  assert jnp.isfinite(grad).all() and (np.asarray(grad)[np.isnan(grades)] == 0).all()


def test_regression_on_another_number_of_attributes_is_refused():
  with pytest.raises(Refused, match="2 parts but the data have 5 attributes.*model.parts=5"):
    objectives.regression(jnp.zeros((3, 2, 2)), jnp.zeros((3, 2, 5)))


@pytest.mark.parametrize("thresholds", ["-1.5,-0.5,0.5,1.5", "0.3", "-4,1,1.25"])
def test_ordinal_probabilities_are_differences_of_cumulative_ones(thresholds):
  cuts = [float(t) for t in thresholds.split(",")]
  score = np.random.default_rng(1).normal(0, 2, (6, 2)).astype(np.float32)
  for grade in range(len(cuts) + 1):
    below = 1.0 if grade == len(cuts) else expit(cuts[grade] - np.float64(score))
    above = 0.0 if grade == 0 else expit(cuts[grade - 1] - np.float64(score))
    found = objectives.ordinal(
      score, np.full(score.shape, grade, np.float32), thresholds=thresholds
    )
    np.testing.assert_allclose(found[0], -np.log(below - above), rtol=2e-5, atol=1e-6)


def test_ordinal_of_two_grades_is_classify():
  rng = np.random.default_rng(2)
  score, good = rng.normal(0, 3, (5, 2)).astype(np.float32), rng.integers(0, 2, (5, 2)) * 1.0
  one = objectives.ordinal(score, good, thresholds="0")[0]
  np.testing.assert_allclose(one, objectives.classify(score, good)[0], rtol=1e-5)


def test_ordinal_is_finite_far_from_its_thresholds_and_pulls_back():
  score = jnp.asarray([[1e4, -1e4]])
  grade = jnp.asarray([[2.0, 2.0]])
  loss, grad = jax.value_and_grad(lambda s: objectives.ordinal(s, grade)[0].sum())(score)
  assert jnp.isfinite(loss) and grad[0, 0] == 1 and grad[0, 1] == -1


@pytest.mark.parametrize("thresholds", ["", "a,b", "1,1", "2,1"])
def test_thresholds_that_do_not_increase_are_refused(thresholds):
  with pytest.raises(Refused, match="thresholds that increase"):
    objectives.ordinal(jnp.zeros((1, 2)), jnp.zeros((1, 2)), thresholds=thresholds)


def test_classify_is_binary_cross_entropy_and_a_tie_is_on_no_side():
  rng = np.random.default_rng(3)
  score, good = rng.normal(0, 3, (5, 2)).astype(np.float32), rng.random((5, 2)).astype(np.float32)
  np.testing.assert_allclose(objectives.classify(score, good)[0], _bce(score, good), rtol=1e-5)
  right = objectives.classify(jnp.asarray([[0.0, 1.0]]), jnp.asarray([[1.0, 1.0]]))[1]
  np.testing.assert_array_equal(right["outcome/accuracy"], [[0.0, 1.0]])


def _steps(seed=4, b=4, t=9):
  rng = np.random.default_rng(seed)
  score = rng.normal(0, 2, (b, 2, t)).astype(np.float32)
  mask = (rng.random((b, 2, t)) < 0.7).astype(np.float32)
  mask[0, 1] = 0
  label = np.where(rng.random((b, 2, t)) < 0.4, rng.integers(0, 2, (b, 2, t)), -1) * 1.0
  label[1, 0] = -1
  return score, mask, label.astype(np.float32)


def test_orm_reads_the_last_token_that_counts():
  score, mask, _ = _steps()
  good = np.random.default_rng(5).integers(0, 2, (4, 2)).astype(np.float32)
  wanted = np.zeros((4, 2))
  for b, k in np.ndindex(4, 2):
    places = np.flatnonzero(mask[b, k])
    wanted[b, k] = _bce(score[b, k, places[-1]], good[b, k]) if len(places) else 0.0
  loss, metrics = objectives.orm(score, good, mask)
  np.testing.assert_allclose(loss, wanted, rtol=1e-5)
  assert loss[0, 1] == 0 and metrics["outcome/accuracy"][1][0, 1] == 0


def test_prm_is_the_mean_over_steps_and_sees_nothing_else():
  score, _, label = _steps(6)
  wanted, right = np.zeros((4, 2)), np.zeros((4, 2))
  for b, k in np.ndindex(4, 2):
    ends = label[b, k] >= 0
    if ends.any():
      wanted[b, k] = _bce(score[b, k], label[b, k])[ends].mean()
      right[b, k] = ((score[b, k] > 0) == (label[b, k] > 0.5))[ends].mean()
  loss, metrics = objectives.prm(score, label)
  np.testing.assert_allclose(loss, wanted, rtol=1e-5)
  value, count = metrics["step/accuracy"]
  np.testing.assert_allclose(value, right, rtol=1e-6)
  np.testing.assert_array_equal(count, (label >= 0).sum(-1))
  grad = jax.grad(lambda s: objectives.prm(s, label)[0].sum())(jnp.asarray(score))
  assert (np.asarray(grad)[label < 0] == 0).all() and (np.asarray(grad)[label >= 0] != 0).all()


def test_prm_of_one_step_at_the_end_is_orm():
  score, mask, _ = _steps(7)
  good = np.random.default_rng(8).integers(0, 2, (4, 2)).astype(np.float32)
  label = np.full(score.shape, -1, np.float32)
  for b, k in np.ndindex(4, 2):
    if mask[b, k].any():
      label[b, k, np.flatnonzero(mask[b, k])[-1]] = good[b, k]
  one, other = objectives.prm(score, label)[0], objectives.orm(score, good, mask)[0]
  np.testing.assert_allclose(one, other, rtol=1e-6)
