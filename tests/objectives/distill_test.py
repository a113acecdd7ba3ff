"""Distillation against float64 definitions, identities and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from jaxpref import objectives
from jaxpref.types import Refused


def _draw(seed=0, shape=(3, 2, 5), v=7):
  rng = np.random.default_rng(seed)
  student, teacher = rng.normal(0, 2, (2, *shape, v)).astype(np.float32)
  return student, teacher, (rng.random(shape) < 0.7).astype(np.float32)


def _kl(p, q):
  return sum(a * (np.log(a) - np.log(b)) for a, b in zip(p, q, strict=True) if a > 0)


def _jsd(p, q, b):
  if b in (0, 1):
    return _kl(p, q) if b == 0 else _kl(q, p)
  m = b * p + (1 - b) * q
  return b * _kl(p, m) + (1 - b) * _kl(q, m)


def _each(one, student, teacher, mask, temperature=1.0):
  """A definition of one place, on probabilities, at every place that counts."""
  q, p = (softmax(np.float64(x) / temperature, -1) for x in (student, teacher))
  out = np.zeros(mask.shape)
  for place in np.ndindex(mask.shape):
    out[place] = one(p[place], q[place]) if mask[place] else 0.0
  return out


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_gkd_equals_its_definition(beta, temperature):
  student, teacher, mask = _draw()
  wanted = _each(lambda p, q: _jsd(p, q, beta), student, teacher, mask, temperature)
  found = objectives.gkd(student, teacher, mask, beta=beta, temperature=temperature)[0]
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_gkd_of_equals_is_zero_bounded_and_jumps_at_the_ends():
  student, teacher, mask = _draw(1)
  ones = np.ones_like(mask)
  np.testing.assert_allclose(objectives.gkd(student, student, ones)[0], 0.0, atol=1e-6)
  even = objectives.gkd(student, teacher, ones, beta=0.5)[0]
  assert (even <= np.log(2) + 1e-6).all() and (even >= 0).all()
  near = objectives.gkd(student, teacher, ones, beta=1e-4)[0] / 1e-4
  forward = objectives.gkd(student, teacher, ones, beta=0.0)[0]
  np.testing.assert_allclose(near, forward, rtol=0.02, atol=2e-2)  # the limit of D over beta


def test_gkd_swaps_its_sides_with_beta():
  student, teacher, mask = _draw(2)
  one = objectives.gkd(student, teacher, mask, beta=0.2)[0]
  other = objectives.gkd(teacher, student, mask, beta=0.8)[0]
  np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_topk_losses_equal_their_definitions(beta):
  student, teacher, mask = _draw(3)

  def renormalised(p, q):
    top = np.argsort(-q)[:3]
    return _jsd(p[top] / p[top].sum(), q[top] / q[top].sum(), beta)

  def tail(p, q):
    top = np.argsort(-q)[:3]
    return _jsd(np.append(p[top], 1 - p[top].sum()), np.append(q[top], 1 - q[top].sum()), beta)

  for fn, one in ((objectives.topk_renormalised, renormalised), (objectives.topk_tail, tail)):
    found = fn(student, teacher, mask, k=3, beta=beta)[0]
    np.testing.assert_allclose(found, _each(one, student, teacher, mask), rtol=1e-4, atol=1e-5)


def test_topk_of_all_tokens_is_gkd():
  student, teacher, mask = _draw(4)
  for fn in (objectives.topk_renormalised, objectives.topk_tail):
    whole = objectives.gkd(student, teacher, mask, beta=0.3)[0]
    np.testing.assert_allclose(fn(student, teacher, mask, k=99, beta=0.3)[0], whole, atol=1e-5)
  with pytest.raises(Refused, match="k >= 1; it is 0"):
    objectives.topk_tail(student, teacher, mask, k=0)


def test_uld_compares_sorted_probabilities_of_any_vocabularies():
  student, teacher, mask = _draw(5)
  teacher = teacher[..., :4]

  def one(p, q):
    p, q = sorted(p, reverse=True) + [0] * 3, sorted(q, reverse=True)
    return sum(abs(a - b) for a, b in zip(p, q, strict=True))

  found = objectives.uld(student, teacher, mask)[0]
  np.testing.assert_allclose(found, _each(one, student, teacher, mask), rtol=1e-4, atol=1e-6)
  shuffled = student[..., np.random.default_rng(0).permutation(7)]
  np.testing.assert_allclose(objectives.uld(student, shuffled, mask)[0], 0.0, atol=1e-6)
  with pytest.raises(Refused, match="another vocabulary use uld"):
    objectives.gkd(student, teacher, mask)


def test_cosine_is_the_angle_and_blind_to_scale():
  student, teacher, mask = _draw(6)
  norm = lambda x: np.linalg.norm(np.float64(x), axis=-1)
  wanted = 1 - (np.float64(student) * teacher).sum(-1) / norm(student) / norm(teacher)
  found = objectives.cosine(student, teacher, mask, beta=0.8)[0]
  np.testing.assert_allclose(found, 0.8 * wanted * mask, rtol=1e-4, atol=1e-6)
  bigger = objectives.cosine(3 * student, teacher, mask, beta=0.8)[0]
  np.testing.assert_allclose(bigger, found, rtol=1e-4, atol=1e-6)


def _tokens(seed, shape=(3, 2, 6)):
  rng = np.random.default_rng(seed)
  logps = -rng.gamma(2.0, 1.0, (3, *shape)).astype(np.float32)
  return *logps, (rng.random(shape) < 0.7).astype(np.float32)


def test_sampled_rkl_has_the_gradient_of_the_reverse_divergence():
  """Averaged over the student's own distribution, for one place of a small vocabulary."""
  rng = np.random.default_rng(7)
  student, teacher = rng.normal(size=(2, 5))
  p = log_softmax(teacher)

  def expected(z):
    logq = jax.nn.log_softmax(z)
    weight = jax.lax.stop_gradient(jnp.exp(logq))
    each = objectives.sampled_rkl(logq[None, None], jnp.asarray(p)[None, None], jnp.ones((1, 1, 5)))
    return (weight * each[0][0, 0]).sum()

  reverse = lambda z: (jax.nn.softmax(z) * (jax.nn.log_softmax(z) - p)).sum()
  z = jnp.asarray(student)
  np.testing.assert_allclose(jax.grad(expected)(z), jax.grad(reverse)(z), rtol=1e-4, atol=1e-6)


def test_iw_opd_equals_its_definition():
  own, sampler, teacher, mask = _tokens(8)
  wanted = np.zeros(mask.shape)
  for b, k in np.ndindex(mask.shape[:2]):
    gain = np.float64(teacher[b, k]) - sampler[b, k]
    places = [t for t in range(mask.shape[2]) if mask[b, k, t]]
    total, before = sum(abs(gain[t]) for t in places), 0.0
    for t in places:
      weight = 1 + 0.5 * (1 - before / (total + 1e-8))
      wanted[b, k, t] = -weight * gain[t] * own[b, k, t]
      before += abs(gain[t])
  found = objectives.iw_opd(own, sampler, teacher, mask, gamma=0.5)[0]
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(objectives.iw_opd(own, teacher, teacher, mask)[0], 0.0)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_minillm_equals_its_definition(gamma):
  own, teacher, _, mask = _tokens(9)
  plain, normal = np.zeros(mask.shape), np.zeros(mask.shape)
  for b, k in np.ndindex(mask.shape[:2]):
    places = [t for t in range(mask.shape[2]) if mask[b, k, t]]
    reward = np.float64(teacher[b, k]) - own[b, k]
    for n, t in enumerate(places):
      later = [(gamma**i, reward[s]) for i, s in enumerate(places[n:])]
      total = sum(g * r for g, r in later)
      plain[b, k, t] = -total * own[b, k, t]
      normal[b, k, t] = plain[b, k, t] / sum(g for g, _ in later)
  for fn, wanted in ((objectives.minillm, plain), (objectives.minillm_normalised, normal)):
    np.testing.assert_allclose(fn(own, teacher, mask, gamma=gamma)[0], wanted, rtol=1e-4, atol=1e-5)
  if gamma == 0:
    same = objectives.sampled_rkl(own, teacher, mask)[0]
    np.testing.assert_allclose(
      objectives.minillm(own, teacher, mask, gamma=0.0)[0], same, rtol=1e-6
    )


def test_dft_has_the_gradient_of_the_probability():
  own, _, _, mask = _tokens(10)
  grad = jax.grad(lambda x: objectives.dft(x, mask)[0].sum())(jnp.asarray(own))
  wanted = np.zeros(mask.shape)
  wanted[:, 0] = -np.exp(np.float64(own))[:, 0] * mask[:, 0]
  np.testing.assert_allclose(grad, wanted, rtol=1e-5)


def test_asft_adds_the_divergence_from_the_reference():
  student, ref, mask = _draw(11)
  own = _tokens(12, mask.shape)[0]
  anchor = _each(lambda p, q: _kl(p, q), student, ref, mask)[:, :1]
  plain = objectives.dft(own, mask)[0]
  found = objectives.asft(own, student, ref, mask, alpha=0.3)[0]
  np.testing.assert_allclose(found, plain + 0.3 * anchor, rtol=1e-4, atol=1e-6)
  np.testing.assert_array_equal(objectives.asft(own, student, ref, mask, alpha=0.0)[0], plain)


def test_supervised_variants_count_all_candidates_and_weigh_by_grade():
  own, _, _, mask = _tokens(13)
  each = objectives.nll_each(own, mask)[0]
  np.testing.assert_array_equal(each, np.where(mask > 0, -own, 0.0))
  np.testing.assert_array_equal(each[:, :1], objectives.nll(own, mask)[0])
  grade = np.random.default_rng(14).normal(size=mask.shape[:2]).astype(np.float32)
  weighted = objectives.nll_weighted(own, mask, grade)[0]
  np.testing.assert_allclose(weighted, grade[..., None] * each, rtol=1e-6)
