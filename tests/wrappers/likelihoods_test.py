"""Wrappers that change what a base sees: divergences, lengths, clamps, gold responses, weights."""

import definitions
import definitions_compose as compose
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import call, objectives, wrappers
from jaxpref.objectives import cdpo, cpo, dpo, ipo, kto, simpo
from jaxpref.types import Refused
from jaxpref.wrappers import f_divergence, humanline, length_desensitized, without_gold, wpo

WORKED = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])  # a = 1, b = -0.5
ORDERS = [("reverse_kl", 0.5), ("forward_kl", 0.5), ("js", 0.5)] + [
  ("alpha", a) for a in (-1.0, 0.0, 0.5, 2.0)
]


def _pairs(seed, rows=6):
  return np.random.default_rng(seed).normal(-10.0, 1.5, (2, rows, 2)).astype(np.float32)


def _tokens(seed, k=2, rows=5):
  """Token log-probabilities of policy and reference, and a mask with an empty response."""
  rng = np.random.default_rng(seed)
  token_logp, ref = -rng.gamma(2.0, 0.7, (2, rows, k, 7)).astype(np.float32)
  mask = (rng.random((rows, k, 7)) < 0.7).astype(np.float32)
  mask[1, 0] = 0
  return token_logp, ref, mask


def _sums(x, mask):
  return (x * mask).sum(-1)


@pytest.mark.parametrize(("divergence", "alpha"), ORDERS)
def test_divergences_equal_the_definition_under_three_links(divergence, alpha):
  logp, ref = _pairs(0)
  seen = compose.slope_of_divergence(np.float64(logp) - ref, divergence, alpha)
  zero, length = np.zeros_like(seen), np.full(seen.shape, 3.0)
  wrap = lambda base: f_divergence(base, divergence=divergence, alpha=alpha)
  np.testing.assert_allclose(
    wrap(dpo)(logp, ref)[0], definitions.dpo(seen, zero), rtol=2e-5, atol=1e-30
  )
  found = wrap(cdpo)(logp, ref, label_smoothing=0.1)[0]
  np.testing.assert_allclose(found, definitions.cdpo(seen, zero, 0.1, 0.1), rtol=2e-5, atol=1e-30)
  found = wrap(ipo)(logp, ref, length)[0]
  np.testing.assert_allclose(found, definitions.ipo(seen, zero, length), rtol=1e-4)


@pytest.mark.parametrize(
  ("divergence", "alpha", "worked"),
  [
    ("forward_kl", 0.5, "0.631154"),
    ("js", 0.5, "0.660652"),
    ("alpha", 0.5, "0.627691"),
    ("alpha", 2.0, "0.593124"),
  ],
)
def test_worked_values_of_the_catalogue(divergence, alpha, worked):
  loss, _ = f_divergence(dpo, divergence=divergence, alpha=alpha)(*WORKED)
  assert f"{loss[0]:.6f}" == worked


def test_reverse_kl_and_alpha_one_are_the_base_and_alpha_zero_is_forward_kl():
  logp, ref = _pairs(1)
  plain = dpo(logp, ref)[0]
  for knobs in ({"divergence": "reverse_kl"}, {"divergence": "alpha", "alpha": 1.0}):
    np.testing.assert_allclose(f_divergence(dpo, **knobs)(logp, ref)[0], plain, rtol=1e-6)
  near = f_divergence(dpo, divergence="alpha", alpha=1 + 1e-5)(logp, ref)[0]
  np.testing.assert_allclose(near, plain, rtol=1e-4)
  zero, forward = (
    f_divergence(dpo, divergence=d, alpha=0.0)(logp, ref)[0] for d in ("alpha", "forward_kl")
  )
  np.testing.assert_array_equal(zero, forward)


def test_under_a_divergence_rewards_are_its_own_and_logps_the_true_ones():
  logp, ref = _pairs(2)
  _, metrics = f_divergence(dpo, divergence="js")(logp, ref)
  np.testing.assert_array_equal(metrics["logps/chosen"], logp[:, 0])
  np.testing.assert_array_equal(metrics["logps/rejected"], logp[:, 1])
  seen = compose.slope_of_divergence(np.float64(logp) - ref, "js")
  np.testing.assert_allclose(metrics["rewards/chosen"], 0.1 * seen[:, 0], rtol=1e-4, atol=1e-6)


def test_beyond_the_cap_there_is_no_gradient():
  fn = f_divergence(dpo, divergence="forward_kl", cap=3.0)
  grad = jax.grad(lambda x: fn(x, jnp.zeros((1, 2)))[0].sum())(jnp.asarray([[-4.0, 1.0]]))
  assert grad[0, 0] == 0 and grad[0, 1] != 0


def test_divergences_refuse_what_they_do_not_fit_by_name():
  with pytest.raises(Refused, match="no divergence 'jss'. Did you mean 'js'"):
    f_divergence(dpo, divergence="jss")
  with pytest.raises(Refused, match="does not go around kto, which looks at the log-ratios"):
    f_divergence(kto)
  with pytest.raises(Refused, match="reads logp and ref_logp, such as dpo; simpo reads"):
    f_divergence(simpo)
  with pytest.raises(Refused, match="needs dpo with gamma=1; it is 0.0"):
    f_divergence(call.bind(dpo, gamma=0.0))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_desensitised_sums_equal_the_definition_for_policy_and_reference(alpha):
  token_logp, ref, mask = _tokens(3)
  loss, metrics = length_desensitized(dpo, alpha=alpha)(token_logp, ref, mask)
  seen, seen_ref = (
    compose.each(compose.desensitized, x, mask, alpha=alpha) for x in (token_logp, ref)
  )
  np.testing.assert_allclose(loss, definitions.dpo(seen, seen_ref), rtol=1e-5)
  np.testing.assert_allclose(metrics["logps/chosen"], _sums(token_logp, mask)[:, 0], rtol=1e-5)


def test_alpha_one_is_the_base_and_at_equal_lengths_alpha_does_not_matter():
  token_logp, ref, mask = _tokens(4)
  plain = dpo(_sums(token_logp, mask), _sums(ref, mask))[0]
  whole = length_desensitized(dpo, alpha=1.0)(token_logp, ref, mask)[0]
  np.testing.assert_allclose(whole, plain, rtol=1e-5)
  even = np.stack([mask[:, 0], mask[:, 0]], 1)
  one, other = (length_desensitized(dpo, alpha=a)(token_logp, ref, even)[0] for a in (0.0, 0.7))
  np.testing.assert_array_equal(one, other)


def test_a_base_without_reference_is_desensitised_too():
  token_logp, _, mask = _tokens(5)
  fn = length_desensitized(cpo, alpha=0.2)
  assert call.needs(fn) == ("token_logp", "mask")
  seen = compose.each(compose.desensitized, token_logp, mask, alpha=0.2)
  np.testing.assert_allclose(fn(token_logp, mask)[0], compose.each(compose.cpo, seen), rtol=1e-5)


@pytest.mark.parametrize("bounds", [(-1.5, 1.0), (-0.2, 0.1)])
def test_clamped_ratios_equal_the_definition(bounds):
  token_logp, ref, mask = _tokens(6)
  loss, metrics = humanline(dpo, lower=bounds[0], upper=bounds[1])(token_logp, ref, mask)
  seen = compose.each(compose.clamped, token_logp, ref, mask, lower=bounds[0], upper=bounds[1])
  np.testing.assert_allclose(loss, definitions.dpo(seen, np.zeros_like(seen)), rtol=1e-5)
  ratio = token_logp - ref
  outside = ((ratio < bounds[0]) | (ratio > bounds[1])) * mask
  np.testing.assert_array_equal(metrics["humanline/clamped"], outside)


def test_wide_bounds_are_the_base_and_clamped_tokens_have_no_gradient():
  token_logp, ref, mask = _tokens(7)
  plain = dpo(_sums(token_logp, mask), _sums(ref, mask))[0]
  wide = humanline(dpo, lower=-1e3, upper=1e3)(token_logp, ref, mask)[0]
  np.testing.assert_allclose(wide, plain, rtol=1e-5)
  fn = humanline(dpo, lower=-0.3, upper=0.3)
  grad = jax.grad(lambda x: fn(x, ref, mask)[0].sum())(jnp.asarray(token_logp))
  inside = (np.abs(token_logp - ref) < 0.3) & (mask > 0)
  np.testing.assert_array_equal(np.asarray(grad) != 0, inside)


def test_without_a_reference_log_probabilities_themselves_are_clamped():
  token_logp, _, mask = _tokens(8)
  length = np.maximum(mask.sum(-1), 1)
  found = humanline(simpo)(token_logp, length=length, mask=mask)[0]
  seen = compose.each(compose.clamped, token_logp, 0 * token_logp, mask, lower=-1.5, upper=1.0)
  np.testing.assert_allclose(found, compose.each(compose.simpo, seen, length), rtol=1e-5)


def test_metrics_with_counts_keep_their_counts():
  token_logp, ref, mask = _tokens(9, k=1)
  good = np.asarray([[1.0], [0], [1], [0], [1]], np.float32)
  arrays = {"token_logp": token_logp, "ref_token_logp": ref, "mask": mask, "relevance": good}
  _, metrics = call.feed(humanline(kto), arrays | {"baseline": jnp.zeros(5)})
  value, count = metrics["logps/chosen"]
  np.testing.assert_array_equal(count, good[:, 0])
  np.testing.assert_allclose(value, _sums(token_logp, mask)[:, 0], rtol=1e-5)


def test_weights_of_pairs_equal_the_definition_and_have_no_gradient():
  token_logp, collision, mask = _tokens(10)
  logp, ref = _pairs(11, rows=5)
  loss, metrics = wpo(dpo)(logp, ref, token_logp, collision, mask)
  weight = compose.each(compose.wpo_weight, token_logp, collision, mask)
  np.testing.assert_allclose(metrics["wpo/weight"], weight, rtol=1e-5)
  np.testing.assert_allclose(loss, weight * definitions.dpo(logp, ref), rtol=1e-5)
  grad = jax.grad(lambda x: wpo(dpo)(logp, ref, x, collision, mask)[0].sum())(token_logp)
  np.testing.assert_array_equal(grad, 0.0)


def test_a_policy_that_is_sure_of_every_token_gives_weight_one():
  logp, ref = _pairs(12, rows=5)
  _, _, mask = _tokens(13)
  zero = np.zeros_like(mask)
  np.testing.assert_array_equal(wpo(dpo)(logp, ref, zero, zero, mask)[0], dpo(logp, ref)[0])


def test_without_gold_is_the_base_on_the_other_two():
  logp, length = -np.random.default_rng(14).gamma(3.0, 2.0, (2, 5, 3)).astype(np.float32)
  found, plain = without_gold(simpo)(logp, -length), simpo(logp[:, 1:], -length[:, 1:])
  jax.tree.map(np.testing.assert_array_equal, found, plain)
  grad = jax.grad(lambda x: without_gold(simpo)(x, -length)[0].sum())(jnp.asarray(logp))
  np.testing.assert_array_equal(grad[:, 0], 0.0)
  with pytest.raises(Refused, match="without_gold reads 3 candidates"):
    without_gold(simpo)(logp[:, 1:], length[:, 1:])


def test_wrappers_nest():
  token_logp, ref, mask = _tokens(15)
  both = f_divergence(dpo, divergence="forward_kl")
  both = length_desensitized(both, alpha=0.5)
  seen, seen_ref = (
    compose.each(compose.desensitized, x, mask, alpha=0.5) for x in (token_logp, ref)
  )
  seen = compose.slope_of_divergence(seen - seen_ref, "forward_kl")
  found = both(token_logp, ref, mask)[0]
  np.testing.assert_allclose(
    found, definitions.dpo(seen, np.zeros_like(seen)), rtol=1e-4, atol=1e-30
  )


@pytest.mark.parametrize(
  ("name", "knobs", "sentence"),
  [
    ("length_desensitized", {"alpha": 1.5}, "needs alpha from 0 to 1; it is 1.5"),
    ("humanline", {"lower": 1.0}, "needs lower < upper; they are 1.0 and 1.0"),
    ("f_divergence", {"cap": 0.0}, "f_divergence needs cap > 0"),
  ],
)
def test_wrong_knobs_are_refused(name, knobs, sentence):
  with pytest.raises(Refused, match=sentence):
    call.bind(call.find(wrappers, name), **knobs)(objectives.dpo)
