"""Token-level DPO: definitions, the baseline without gradient, identities with DPO."""

import definitions_compose as definitions
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref.objectives import dpo, tdpo1, tdpo2
from jaxpref.objectives.tdpo import sequential_kl
from jaxpref.types import Refused


def _inputs(seed):
  rng = np.random.default_rng(seed)
  logp, ref_logp = rng.normal(-20.0, 4.0, (2, 5, 2)).astype(np.float32)
  logits, ref_logits = rng.normal(0.0, 2.0, (2, 5, 2, 6, 4)).astype(np.float32)
  mask = (rng.random((5, 2, 6)) < 0.6).astype(np.float32)
  mask[3] = 0
  return logp, ref_logp, logits, ref_logits, mask


def test_both_forms_equal_the_definition():
  arrays = _inputs(0)
  first = definitions.each(definitions.tdpo, *arrays, beta=0.3)
  np.testing.assert_allclose(tdpo1(*arrays, beta=0.3)[0], first, rtol=1e-5)
  second = definitions.each(definitions.tdpo, *arrays, beta=0.3, alpha=0.2)
  np.testing.assert_allclose(tdpo2(*arrays, beta=0.3, alpha=0.2)[0], second, rtol=1e-5)


def test_the_kls_are_reported_and_equal_the_definition():
  logp, ref_logp, *rest = _inputs(1)
  _, metrics = tdpo1(logp, ref_logp, *rest)
  for k, name in enumerate(("kl/chosen", "kl/rejected")):
    wanted = definitions.each(definitions.sequential_kl, *(x[:, k] for x in rest))
    np.testing.assert_allclose(metrics[name], wanted, rtol=1e-5, atol=1e-6)


def test_where_policy_and_reference_agree_on_every_prediction_it_is_dpo():
  logp, ref_logp, logits, _, mask = _inputs(2)
  plain = dpo(logp, ref_logp)[0]
  for fn in (tdpo1, tdpo2):
    np.testing.assert_allclose(fn(logp, ref_logp, logits, logits, mask)[0], plain, rtol=1e-6)
  other = _inputs(3)[3]
  np.testing.assert_array_equal(tdpo2(logp, ref_logp, logits, other, mask, alpha=0.0)[0], plain)


def test_the_preferred_kl_has_a_gradient_in_the_first_form_only():
  logp, ref_logp, logits, ref_logits, mask = _inputs(4)
  loss = lambda fn: lambda x: fn(logp, ref_logp, x, ref_logits, mask)[0].sum()
  first, second = (jax.grad(loss(fn))(jnp.asarray(logits)) for fn in (tdpo1, tdpo2))
  assert (first[:, 0] != 0).any() and (second[:, 0] == 0).all() and (second[:, 1] != 0).any()


def test_the_gradient_of_the_kl_is_the_difference_of_the_predictions():
  """d KL(p || q) / d logits = q - p."""
  _, _, logits, ref_logits, mask = _inputs(5)
  grad = jax.grad(lambda x: sequential_kl(x, ref_logits, mask).sum())(jnp.asarray(logits))
  q, p = (np.exp(definitions.log_softmax(np.float64(x))) for x in (logits, ref_logits))
  np.testing.assert_allclose(grad, (q - p) * mask[..., None], rtol=1e-4, atol=1e-6)


def test_the_masked_places_and_a_shift_of_all_logits_do_not_matter():
  logp, ref_logp, logits, ref_logits, mask = _inputs(6)
  noise = np.where(mask[..., None] > 0, logits + 5.0, -logits)
  left = tdpo1(logp, ref_logp, noise, ref_logits, mask)[0]
  right = tdpo1(logp, ref_logp, logits, ref_logits, mask)[0]
  np.testing.assert_allclose(left, right, rtol=1e-5)


def test_three_candidates_are_refused():
  with pytest.raises(Refused, match="tdpo1 reads 2 candidates"):
    tdpo1(*(jnp.zeros((2, 3, *s)) for s in ((), (), (4, 5), (4, 5), (4,))))
