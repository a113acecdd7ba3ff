"""Bradley-Terry with margins, soft labels, strengths; and what the card of secrets_rm says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from definitions import log_sigmoid, slope

from jaxpref import objectives
from jaxpref.types import Refused


def _draw(seed=0, b=7):
  rng = np.random.default_rng(seed)
  score = rng.normal(0.0, 2.0, (b, 2)).astype(np.float32)
  return score, rng.normal(0.5, 1.0, b).astype(np.float32), rng.random(b).astype(np.float32)


def _cross_entropy(gap, p):
  return -p * log_sigmoid(gap) - (1 - p) * log_sigmoid(-gap)


def _gap(score):
  score = np.float64(score)
  return score[:, 0] - score[:, 1]


def _square(score):
  return np.float64(score).sum(1) ** 2


@pytest.mark.parametrize(
  "knobs", [{}, {"scale": 0.5}, {"label_smoothing": 0.2}, {"center": 0.1, "scale": 2.0}]
)
def test_margin_equals_the_definition(knobs):
  score, strength, _ = _draw()
  gap = _gap(score) - knobs.get("scale", 1.0) * np.float64(strength)
  wanted = _cross_entropy(gap, 1 - knobs.get("label_smoothing", 0.0))
  wanted += knobs.get("center", 0.0) * _square(score)
  found = objectives.bradley_terry_margin(score, strength, **knobs)[0]
  np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_soft_smooth_and_scaled_equal_their_definitions():
  score, strength, label = _draw(1)
  gap, label64 = _gap(score), np.float64(label)
  soft = objectives.bradley_terry_soft(score, label, center=0.1)[0]
  np.testing.assert_allclose(soft, _cross_entropy(gap, label64) + 0.1 * _square(score), rtol=1e-5)
  smooth = objectives.bradley_terry_smooth(score, label_smoothing=0.3)[0]
  np.testing.assert_allclose(smooth, _cross_entropy(gap, 0.7), rtol=1e-5)
  scaled = objectives.bradley_terry_scaled(score, np.abs(strength))[0]
  wanted = -np.abs(np.float64(strength)) * log_sigmoid(gap)
  np.testing.assert_allclose(scaled, wanted, rtol=1e-5)
  both = objectives.bradley_terry_soft_margin(score, label, strength, scale=0.5)[0]
  wanted = _cross_entropy(gap - 0.5 * np.float64(strength), label64)
  np.testing.assert_allclose(both, wanted, rtol=1e-5)


def test_worked_values_of_the_catalogue_and_the_card():
  score = jnp.asarray([[1.0, 0.2]])
  found = objectives.bradley_terry_margin(score, jnp.asarray([0.5]))[0][0]
  assert f"{found:.6f}" == "0.554355"
  two = objectives.bradley_terry_margin(jnp.asarray([[2.0, 0.0]]), jnp.asarray([1.0]))[0][0]
  assert f"{two:.6f}" == "0.313262"
  floored = objectives.bradley_terry_floored(jnp.asarray([[0.0, 0.0], [-500.0, 500.0]]))[0]
  assert f"{floored[0]:.6f}" == "0.693127" and f"{floored[1]:.4f}" == "11.5129"


def test_a_margin_only_shifts_the_logit_and_zero_is_bradley_terry():
  score, strength, _ = _draw(2)
  plain = objectives.bradley_terry(score)[0]
  zero = np.zeros(len(score), np.float32)
  np.testing.assert_array_equal(objectives.bradley_terry_margin(score, zero)[0], plain)
  np.testing.assert_array_equal(objectives.bradley_terry_scaled(score, zero + 1)[0], plain)
  shifted = score - np.stack([strength, zero], 1)
  np.testing.assert_allclose(
    objectives.bradley_terry_margin(score, strength)[0],
    objectives.bradley_terry(shifted)[0],
    rtol=1e-6,
  )


def test_soft_labels_of_one_zero_and_a_half():
  score, _, _ = _draw(3)
  ones = np.ones(len(score), np.float32)
  soft = lambda p: objectives.bradley_terry_soft(score, p * ones)[0]
  np.testing.assert_allclose(soft(1.0), objectives.bradley_terry(score)[0], rtol=1e-6)
  np.testing.assert_allclose(soft(0.0), objectives.bradley_terry(score[:, ::-1])[0], rtol=1e-6)
  even = objectives.bradley_terry_soft(jnp.ones((1, 2)), jnp.asarray([0.5]))[0]
  np.testing.assert_allclose(even, np.log(2), rtol=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_smoothing_is_least_at_the_logit_of_the_share(share):
  best = np.log((1 - share) / share)
  grad = jax.grad(lambda s: objectives.bradley_terry_smooth(s, label_smoothing=share)[0].sum())
  np.testing.assert_allclose(grad(jnp.asarray([[best, 0.0]])), 0.0, atol=1e-6)
  if share == 0.1:
    assert f"{best:.4f}" == "2.1972"


def test_strengths_and_labels_get_no_gradient():
  score, strength, label = _draw(4)
  for fn, rest in (
    (objectives.bradley_terry_margin, (strength,)),
    (objectives.bradley_terry_soft_margin, (label, strength)),
  ):
    for i in range(len(rest)):
      grad = jax.grad(lambda *r, f=fn: f(score, *r)[0].sum(), argnums=i)(*rest)
      np.testing.assert_array_equal(grad, 0.0)


def test_spread_is_its_definition_bounded_and_flat_at_ties():
  score = np.random.default_rng(5).normal(size=(3, 4)).astype(np.float32)

  def one(r):
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    return 2 / 16 * sum(1 / (1 + np.exp(-abs(r[i] - r[j]))) for i, j in pairs)

  wanted = [one(r) for r in np.float64(score)]
  np.testing.assert_allclose(objectives.score_spread(score)[0], wanted, rtol=1e-6)
  grad = jax.grad(lambda s: objectives.score_spread(s)[0].sum())
  numeric = slope(lambda s: sum(one(r) for r in s), score)
  np.testing.assert_allclose(grad(jnp.asarray(score)), numeric, rtol=1e-4, atol=1e-6)
  ties = jnp.full((1, 4), 2.0)
  assert objectives.score_spread(ties)[0][0] == 0.375
  np.testing.assert_array_equal(grad(ties), 0.0)
  far = objectives.score_spread(jnp.asarray([[0.0, 1e6, 2e6, 3e6]]))[0][0]
  np.testing.assert_allclose(far, 0.75)


def test_wrong_knobs_are_refused():
  score, strength, _ = _draw(6)
  with pytest.raises(Refused, match="bradley_terry_margin needs scale >= 0; it is -1"):
    objectives.bradley_terry_margin(score, strength, scale=-1.0)
  with pytest.raises(Refused, match=r"needs label_smoothing in \[0, 1\]; it is 2"):
    objectives.bradley_terry_smooth(score, label_smoothing=2.0)
  with pytest.raises(Refused, match="floor > 0"):
    objectives.bradley_terry_floored(score, floor=0.0)
  with pytest.raises(Refused, match="at least 2"):
    objectives.score_spread(score[:, :1])
