"""Every policy loss against its float64 definition: values, gradients, first step, empty rows."""

import definitions
import definitions_policy
import jax
import jax.numpy as jnp
import numpy as np
import policy_batches
import pytest

from jaxpref import call, objectives, reduce
from jaxpref.types import Refused

CASES = [
  ("ppo_clip", {}),
  ("ppo_clip", {"epsilon_low": 0.1, "epsilon_high": 0.28}),
  ("ppo_clip", {"level": "sequence"}),
  ("ppo_clip", {"level": "product"}),
  ("dual_clip", {"dual": 1.3}),
  ("dual_clip", {"dual": 1.5, "level": "sequence"}),
  ("two_sided", {"delta": 1.4}),
  ("two_sided", {"delta": 1.4, "level": "product"}),
  ("segment_clip", {}),
  ("decoupled_ppo", {"cap": 2.0}),
  ("decoupled_ppo", {"cap": 2.0, "beyond": "cap"}),
  ("gspo", {}),
  ("gspo", {"epsilon_low": 0.1, "epsilon_high": 0.1}),
  ("gspo_token", {"epsilon_low": 0.1, "epsilon_high": 0.1}),
  ("luspo", {}),
  ("rloo_loss", {}),
  ("gmpo", {}),
  ("gmpo", {"epsilon_low": 0.05, "epsilon_high": 0.1}),
  ("reinforce", {}),
  ("cispo", {"cap_high": 1.1}),
  ("cispo", {"cap_low": 0.8, "cap_high": 1.2}),
  ("cispo_unified", {}),
  ("tis_pg", {}),
  ("topr", {}),
  ("topr", {"level": "token"}),
  ("topr", {"level": "sequence"}),
  ("vespo", {}),
  ("vespo", {"k_pos": 1.0, "lambda_pos": 2.0, "k_neg": 2.0, "lambda_neg": 1.0}),
  ("sapo", {}),
  ("sapo", {"temperature_pos": 2.0, "temperature_neg": 3.0}),
  ("dro", {"beta": 0.5}),
  ("kimi15", {"tau": 0.3}),
  ("dppo_tv", {"epsilon_low": 0.02, "epsilon_high": 0.03}),
  ("dppo_tv", {"max_ratio": 1.1}),
  ("dppo_kl", {"epsilon_low": 0.002, "epsilon_high": 0.003}),
]
# in these a weight has no gradient: the slope of the value is not the gradient
DETACHED = ("cispo", "cispo_unified", "tis_pg", "topr", "vespo", "dppo_tv", "dppo_kl", "gspo_token")
WHOLE = ("gspo", "gspo_token", "luspo", "rloo_loss", "gmpo")  # one ratio per response
NAMES = sorted({name for name, _ in CASES})
every_case = pytest.mark.parametrize(("name", "knobs"), CASES)
every_loss = pytest.mark.parametrize("name", NAMES)


def _loss(name, arrays, **knobs):
  return call.feed(call.bind(getattr(objectives, name), **knobs), arrays)[0]


def _read(name, arrays):
  return {k: v for k, v in arrays.items() if k in call.needs(getattr(objectives, name))}


def _grad(name, arrays, mode="token", **knobs):
  """Gradient in the policy's log-probabilities of the reduced loss."""
  w = reduce.weights(mode, 3, mask=arrays["mask"])
  total = lambda x: (w * _loss(name, arrays | {"token_logp": x}, **knobs)).sum()
  return jax.grad(total)(arrays["token_logp"])


@every_case
@pytest.mark.parametrize("per_token", [False, True])
def test_equals_the_definition(name, knobs, per_token):
  arrays = policy_batches.arrays(0, per_token=per_token)
  wanted = definitions_policy.loss(name, _read(name, arrays) | {"mask": arrays["mask"]}, **knobs)
  np.testing.assert_allclose(_loss(name, arrays, **knobs), wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("name", "knobs"), [c for c in CASES if c[0] not in DETACHED])
def test_gradient_is_the_slope_of_the_definition(name, knobs):
  arrays = policy_batches.arrays(1)
  w = np.float64(reduce.weights("sequence", 3, mask=arrays["mask"]))
  fixed = _read(name, arrays) | {"mask": arrays["mask"]}
  value = lambda x: (w * definitions_policy.loss(name, fixed | {"token_logp": x}, **knobs)).sum()
  wanted = definitions.slope(value, arrays["token_logp"])
  ours = _grad(name, arrays, "sequence", **knobs)
  np.testing.assert_allclose(ours, wanted, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize(
  ("name", "knobs"), [c for c in CASES if c[0] in DETACHED and c[0] != "gspo_token"]
)
def test_gradient_of_a_weighted_loss_is_its_weight_times_minus_the_advantage(name, knobs):
  arrays = policy_batches.arrays(2, per_token=True)
  loss = definitions_policy.loss(name, _read(name, arrays) | {"mask": arrays["mask"]}, **knobs)
  wanted = loss / np.float64(arrays["token_logp"])  # weight * -A
  w = np.float64(reduce.weights("token", 3, mask=arrays["mask"]))
  np.testing.assert_allclose(_grad(name, arrays, **knobs), w * wanted, rtol=1e-4, atol=2e-6)


@every_loss
def test_on_the_first_step_the_ratio_is_one_and_the_gradient_that_of_reinforce(name):
  arrays = policy_batches.arrays(3)
  same = arrays["token_logp"]
  arrays |= {"old_token_logp": same, "sampler_token_logp": same}
  loss = call.feed(getattr(objectives, name), arrays)
  if name != "reinforce":
    ratio = np.asarray(loss[1]["ratio/mean"])[np.asarray(arrays["mask"]) > 0]
    np.testing.assert_array_equal(ratio, 1.0)
  w = reduce.weights("sequence", 3, mask=arrays["mask"])
  wanted = -w * arrays["advantage"]
  if name == "rloo_loss":  # a response's ratio is a product, so its gradient a sum over tokens
    wanted = reduce.weights("sequence_sum", 3, mask=arrays["mask"]) * -arrays["advantage"]
  np.testing.assert_allclose(_grad(name, arrays, "sequence"), wanted, rtol=1e-5, atol=1e-7)


def _outside(sign):
  """One token whose ratio has left the trust region on the side that the advantage pushes to."""
  one = jnp.ones((1, 1, 1))
  logp = -1.0 * one
  moved = {"token_logp": logp, "old_token_logp": logp - sign * 0.9, "sampler_token_logp": logp}
  return moved | {
    "advantage": sign * one,
    "mask": one,
    "segment": jnp.zeros((1, 1, 1), jnp.int32),
    "reward": sign * one[..., 0],
  }


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@every_loss
def test_outside_the_trust_region_clipped_losses_stop_and_the_others_go_on(name, sign):
  stops = "ppo_clip dual_clip two_sided segment_clip decoupled_ppo gspo gspo_token luspo rloo_loss"
  stops = (*stops.split(), "gmpo", "cispo_unified", "dppo_tv", "dppo_kl")
  grad = _grad(name, _outside(sign))[0, 0, 0]
  if name in stops:
    assert grad == 0
  else:
    assert -sign * grad > 0


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("name", ["ppo_clip", "two_sided", "segment_clip", "gspo", "gmpo"])
def test_on_the_other_side_the_gradient_goes_on(name, sign):
  arrays = _outside(sign) | {"advantage": -sign * jnp.ones((1, 1, 1))}
  assert sign * _grad(name, arrays)[0, 0, 0] > 0


def test_dual_and_two_sided_clips_stop_bad_tokens_whose_ratio_is_large():
  one = jnp.ones((1, 1, 1))
  arrays = {"token_logp": -one, "old_token_logp": -4 * one, "advantage": -one, "mask": one}
  assert _grad("ppo_clip", arrays)[0, 0, 0] > 15
  assert _grad("dual_clip", arrays)[0, 0, 0] == 0 and _loss("dual_clip", arrays)[0, 0, 0] == 3
  assert _grad("two_sided", arrays)[0, 0, 0] == 0 and _loss("two_sided", arrays)[0, 0, 0] == 4


@every_loss
def test_what_does_not_count_may_hold_anything(name):
  arrays = policy_batches.arrays(4)
  off = arrays["mask"] == 0
  wild = {
    k: jnp.where(off, jnp.nan, v) if v.shape == off.shape and k not in ("mask", "segment") else v
    for k, v in arrays.items()
  }
  np.testing.assert_array_equal(_loss(name, wild), _loss(name, arrays))
  np.testing.assert_array_equal(_grad(name, wild), _grad(name, arrays))
  assert (np.asarray(_loss(name, arrays))[off] == 0).all()


@every_loss
def test_a_response_in_which_nothing_counts_is_as_if_it_were_not_there(name):
  arrays = policy_batches.arrays(5)
  for mode in ("token", "sequence", "sequence_sum"):
    empty = arrays | {"mask": arrays["mask"].at[3].set(0.0)}
    fewer = {k: v[:3] for k, v in arrays.items()}
    total = lambda a, m=mode: (reduce.weights(m, 3, mask=a["mask"]) * _loss(name, a)).sum()
    np.testing.assert_allclose(total(empty), total(fewer), rtol=1e-5)


@every_loss
@pytest.mark.parametrize("size", [-1e6, -50.0, 50.0, 1e6])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_extremes_are_finite(name, size, sign):
  one = jnp.ones((2, 2, 3))
  arrays = policy_batches.arrays(6)
  arrays = {k: v[:2, :2, :3] if v.ndim == 3 else v[:2, :2] for k, v in arrays.items()}
  arrays |= {"mask": one, "advantage": sign * one, "old_token_logp": arrays["token_logp"] + size}
  assert jnp.isfinite(_loss(name, arrays)).all() and jnp.isfinite(_grad(name, arrays)).all()


@every_loss
@pytest.mark.parametrize("mode", ["token", "sequence", "sequence_sum"])
def test_cutting_a_batch_into_micro_batches_changes_nothing(name, mode):
  arrays = policy_batches.arrays(7)
  w = reduce.weights(mode, 3, mask=arrays["mask"])
  whole = (w * _loss(name, arrays)).sum()
  for parts in ([[0, 1], [2, 3]], [[0], [1, 2, 3]], [[0], [1], [2], [3]]):
    rows = [np.asarray(p) for p in parts]
    split = [(w[p] * _loss(name, {k: v[p] for k, v in arrays.items()})).sum() for p in rows]
    np.testing.assert_allclose(sum(split), whole, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", WHOLE)
def test_losses_of_whole_responses_stand_at_each_of_their_tokens(name):
  arrays = policy_batches.arrays(8)
  loss, mask = np.asarray(_loss(name, arrays)), np.asarray(arrays["mask"])
  for i in np.ndindex(loss.shape[:2]):
    on = loss[i][mask[i] > 0]
    assert on.size == 0 or (on == on[0]).all()


def test_gspo_token_has_the_gradient_of_gspo_where_advantages_are_the_same_along_a_response():
  arrays = policy_batches.arrays(9)
  knobs = {"epsilon_low": 0.05, "epsilon_high": 0.05}
  np.testing.assert_allclose(
    _grad("gspo_token", arrays, "sequence", **knobs),
    _grad("gspo", arrays, "sequence", **knobs),
    rtol=1e-5,
    atol=1e-7,
  )


def test_segments_of_one_token_are_token_ratios_and_one_segment_is_the_sequence_ratio():
  arrays = policy_batches.arrays(10)
  knobs = {"epsilon_low": 0.06, "epsilon_high": 0.08}
  length = arrays["mask"].shape[-1]
  single = arrays | {"segment": jnp.broadcast_to(jnp.arange(length), arrays["mask"].shape)}
  whole = arrays | {"segment": jnp.zeros(arrays["mask"].shape, jnp.int32)}
  outside = arrays | {"segment": jnp.full(arrays["mask"].shape, -1)}
  np.testing.assert_allclose(
    _loss("segment_clip", single, **knobs), _loss("ppo_clip", arrays, **knobs), rtol=1e-5
  )
  for found in (whole, outside):
    np.testing.assert_allclose(
      _loss("segment_clip", found, **knobs), _loss("gspo", arrays, **knobs), rtol=1e-5
    )


def test_worked_values_of_rank_grpo():
  logp = jnp.asarray([[[0.3, -0.1]]])
  zero, one = jnp.zeros((1, 1, 2)), jnp.ones((1, 1, 2))
  segment = jnp.zeros((1, 1, 2), jnp.int32)
  good = lambda x: objectives.segment_clip(x, zero, one, one, segment)[0]
  bad = lambda x: objectives.segment_clip(x, zero, -one, one, segment)[0]
  np.testing.assert_allclose(good(logp), -1.08, rtol=1e-5)
  np.testing.assert_allclose(bad(logp), 1.10517, rtol=1e-5)
  assert (jax.grad(lambda x: good(x).sum())(logp) == 0).all()
  assert (jax.grad(lambda x: bad(x).sum())(logp) > 0).all()


def test_decoupled_ppo_is_ppo_where_both_old_policies_are_one_and_where_the_sampler_is_unknown():
  arrays = policy_batches.arrays(11)
  same = arrays | {"sampler_token_logp": arrays["old_token_logp"]}
  unknown = arrays | {"sampler_token_logp": jnp.full_like(arrays["mask"], jnp.nan)}
  for found in (same, unknown):
    np.testing.assert_allclose(_loss("decoupled_ppo", found), _loss("ppo_clip", arrays), rtol=1e-6)


def test_equal_losses_under_other_names():
  arrays = policy_batches.arrays(12)
  one = _loss("cispo", arrays, cap_low=0.0, cap_high=1.0)
  np.testing.assert_array_equal(_loss("tis_pg", arrays), one)
  np.testing.assert_array_equal(_loss("kimi15", arrays, tau=0.4), _loss("dro", arrays, beta=0.4))
  np.testing.assert_array_equal(_loss("luspo", arrays), _loss("gspo", arrays))
  wide = {"epsilon_low": 0.999, "epsilon_high": 1e6}
  huge = _loss("two_sided", arrays, delta=1e7, **wide)
  np.testing.assert_allclose(huge, _loss("ppo_clip", arrays, **wide), rtol=1e-6)


def test_the_loss_of_a_group_with_zero_mean_advantages_is_zero_by_sequences_not_by_tokens():
  arrays = policy_batches.arrays(13)
  mask = jnp.ones_like(arrays["mask"]).at[0, 0, 2:].set(0.0)
  advantage = jnp.broadcast_to(jnp.asarray([1.0, -0.5, -0.5])[None, :, None], mask.shape)
  arrays |= {"mask": mask, "advantage": advantage, "old_token_logp": arrays["token_logp"]}
  by = {
    m: (reduce.weights(m, 3, mask=mask) * _loss("ppo_clip", arrays)).sum()
    for m in ("sequence", "token")
  }
  assert abs(by["sequence"]) < 1e-6 < abs(by["token"])


def test_clip_metrics_count_by_the_side_of_the_advantage():
  one = jnp.ones((1, 1, 4))
  logp = jnp.log(jnp.asarray([[[0.5, 1.5, 0.5, 1.5]]]))
  advantage = jnp.asarray([[[-1.0, -1.0, 1.0, 1.0]]])
  _, metrics = objectives.ppo_clip(logp, 0 * one, advantage, one)
  np.testing.assert_array_equal(metrics["ratio/clip_low"][0, 0], [1, 0, 0, 0])
  np.testing.assert_array_equal(metrics["ratio/clip_high"][0, 0], [0, 0, 0, 1])
  np.testing.assert_array_equal(metrics["ratio/clip"][0, 0], [1, 0, 0, 1])
  np.testing.assert_allclose(metrics["kl/old"], -logp, rtol=1e-6)


@pytest.mark.parametrize(
  ("name", "knobs", "sentence"),
  [
    ("ppo_clip", {"level": "sequnce"}, r"no level 'sequnce'. Did you mean 'sequence'\?"),
    ("ppo_clip", {"epsilon_low": 0.0}, "ppo_clip needs epsilon_low > 0; it is 0"),
    ("dual_clip", {"dual": 1.0}, "dual_clip needs dual > 1; it is 1"),
    ("two_sided", {"delta": 1.1}, "two_sided needs delta > 1 [+] epsilon_high = 1.2; it is 1.1"),
    ("decoupled_ppo", {"beyond": "drop"}, "needs beyond='mask' or 'cap'; it is 'drop'"),
    ("cispo", {"cap_low": 5.0}, "cispo needs cap_high > cap_low = 5.0; it is 5.0"),
    ("clip_cov", {"fraction": 0.0}, "clip_cov needs fraction above 0 and at most 1; it is 0"),
    ("clip_cov", {"cov_high": 0.5}, "clip_cov needs cov_high > cov_low = 1.0; it is 0.5"),
    ("kl_penalty", {"estimator": "k4"}, "kl_penalty has no estimator 'k4'"),
    ("kl_penalty", {"max_kl": -1.0}, "kl_penalty needs max_kl >= 0"),
    ("sapo", {"temperature_pos": 0.0}, "sapo needs temperature_pos > 0; it is 0"),
  ],
)
def test_wrong_knobs_are_refused(name, knobs, sentence):
  with pytest.raises(Refused, match=sentence):
    _loss(name, policy_batches.arrays(0), **knobs)
