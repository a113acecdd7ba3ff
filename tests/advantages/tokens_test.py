"""Advantages per token and per step against their definitions, identities, degenerate rows."""

import definitions_advantages as definitions
import numpy as np
import pytest

from jaxpref import advantages
from jaxpref.advantages.spread import spread
from jaxpref.types import Refused


def _draw(seed, b=3, k=4, t=7):
  """Token rewards, values and a mask with gaps, an empty row, a row of one token."""
  rng = np.random.default_rng(seed)
  reward, value = rng.normal(size=(2, b, k, t)).astype(np.float32)
  mask = (rng.random((b, k, t)) < 0.7).astype(np.float32)
  mask[0, 1], mask[1, 0] = 0, np.eye(t)[2]
  return reward, value, mask


def _close(ours, wanted):
  np.testing.assert_allclose(ours, wanted, rtol=2e-5, atol=4e-6)


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.9, 0.8), (0.99, 0.0)])
def test_gae_equals_the_definition(gamma, lam):
  reward, value, mask = _draw(0)
  wanted = definitions.gae(reward, value, mask, gamma, lam)
  arrays, knobs = (reward, value, mask), {"gamma": gamma, "lam": lam}
  _close(advantages.gae(*arrays, **knobs, whiten="none"), wanted)
  _close(advantages.gae(*arrays, **knobs), definitions.whiten(wanted, mask))
  _close(advantages.value_target(*arrays, **knobs), (wanted + value) * mask)


def test_gae_packed_equals_the_definition_on_every_sequence():
  reward, value, mask = _draw(1)
  done = np.zeros_like(mask)
  done[..., 3] = done[..., -1] = 1
  ours = advantages.gae_packed(reward, value, mask, done, gamma=0.9, lam=0.8)
  first, second = (
    m * (np.arange(7) < 4) if f else m * (np.arange(7) >= 4) for m, f in ((mask, 1), (mask, 0))
  )
  wanted = sum(definitions.gae(reward, value, m, 0.9, 0.8) for m in (first, second))
  _close(ours, wanted)


def test_vapo_gae_equals_the_definition():
  reward, value, mask = _draw(2)
  lam = lambda n: 1 - 1 / max(0.4 * n, 1.0)
  wanted = definitions.gae(reward, value, mask, 0.9, lam)
  _close(advantages.vapo_gae(reward, value, mask, gamma=0.9, alpha=0.4), wanted)


def test_gae_identities():
  reward, value, mask = _draw(3)
  to_go = advantages.reinforce(reward, mask)
  _close(advantages.gae(reward, value, mask, lam=1.0, whiten="none"), (to_go - value) * mask)
  plain = advantages.gae(reward, 0 * value, mask, gamma=0.9, lam=1.0, whiten="none")
  _close(plain, advantages.reinforce(reward, mask, gamma=0.9))


def test_vtrace_on_policy_is_gae():
  reward, value, mask = _draw(4)
  logp = -np.ones_like(reward)
  ours = advantages.vtrace(reward, value, logp, logp, mask, 0 * mask, gamma=0.9)
  _close(ours, advantages.gae(reward, value, mask, gamma=0.9, whiten="none"))


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_returns_equal_the_definition(gamma):
  reward, _, mask = _draw(5)
  wanted = definitions.returns(reward, mask, gamma)
  _close(advantages.reinforce(reward, mask, gamma=gamma), wanted)
  _close(advantages.reinforce_pp(reward, mask, gamma=gamma), definitions.whiten(wanted, mask))


def test_remax_takes_off_the_greedy_reward():
  reward, _, mask = _draw(6)
  greedy = np.float32([0.5, np.nan, -1.0])
  wanted = (definitions.returns(reward, mask, 1.0) - np.nan_to_num(greedy)[:, None, None]) * mask
  wanted[1] = 0
  _close(advantages.remax(reward, greedy, mask), wanted)


@pytest.mark.parametrize("tail", ["zero", "keep"])
def test_otb_equals_the_definition(tail):
  reward, _, mask = _draw(7)
  rng = np.random.default_rng(8)
  logp, collision = -rng.gamma(2.0, 0.5, (2, *mask.shape)).astype(np.float32)
  weight = rng.gamma(2.0, 0.5, mask.shape).astype(np.float32)
  ours = advantages.otb_rollout(reward, logp, collision, weight, mask, tail=tail)
  wanted = definitions.otb(reward, logp, collision, weight, mask, tail)
  # with `keep` a lone tail is its own baseline, up to 1e-8 over its weight
  np.testing.assert_allclose(ours, wanted, rtol=2e-4, atol=1e-5)


def test_otb_with_equal_weights_is_the_mean_return_per_position():
  reward, _, _ = _draw(9)
  mask = np.ones_like(reward)
  logp = np.full_like(reward, -1.0)
  ours = advantages.otb(reward, logp, logp, mask)
  to_go = definitions.returns(reward, mask, 1.0)
  _close(ours, to_go - to_go.mean(1, keepdims=True))


def test_otb_ignores_tokens_between_turns():
  reward, _, mask = _draw(10)
  logp = -np.ones_like(reward)
  packed = [np.zeros_like(reward) for _ in range(2)]
  for where in np.ndindex(mask.shape[:2]):
    ids = np.nonzero(mask[where])[0]
    packed[0][where][: len(ids)], packed[1][where][: len(ids)] = reward[where][ids], 1
  left = np.asarray(advantages.otb(packed[0], logp, logp, packed[1]))[packed[1] > 0]
  right = np.asarray(advantages.otb(reward, logp, logp, mask))[mask > 0]
  _close(left, right)


def test_opd_is_the_log_ratio_to_the_teacher():
  teacher, student, mask = _draw(11)
  _close(advantages.opd(teacher, student, mask), (teacher - student) * mask)


def _rewards(seed, b=3, k=4, t=5):
  rng = np.random.default_rng(seed)
  reward = rng.normal(size=(b, k)).astype(np.float32)
  present = np.ones((b, k), np.float32)
  reward[0, 1], present[1, 0] = np.nan, 0
  mask = np.float32(np.arange(t) < rng.integers(1, t + 1, (b, k))[..., None])
  counted = mask * (present * np.isfinite(reward))[..., None]
  return reward, mask, present, counted


def test_whitened_baselines_equal_the_definition():
  reward, mask, present, counted = _rewards(12)
  off = definitions.dr_grpo(reward, present)[..., None] * counted
  _close(advantages.reinforce_pp_baseline(reward, mask, present), definitions.whiten(off, counted))
  plain = np.nan_to_num(reward)[..., None] * counted
  _close(advantages.raw(reward, mask, present), plain)
  whitened = advantages.raw(reward, mask, present, whiten="token")
  _close(whitened, definitions.whiten(plain, counted, ddof=0))


def test_whitened_baseline_does_not_change_with_scale_and_shift():
  reward, mask, present, _ = _rewards(13)
  fn = advantages.reinforce_pp_baseline
  np.testing.assert_allclose(
    fn(2 * reward + 3, mask, present), fn(reward, mask, present), atol=1e-5
  )


def test_reinforce_pp_baseline_kl_takes_the_distance_off():
  reward, mask, present, counted = _rewards(14)
  logp, ref = np.random.default_rng(15).normal(-1, 0.3, (2, *mask.shape)).astype(np.float32)
  d = np.float64(logp) - ref
  off = definitions.dr_grpo(reward, present)[..., None] - 0.2 * (np.exp(-d) - 1 + d)
  ours = advantages.reinforce_pp_baseline_kl(reward, logp, ref, mask, present, beta=0.2)
  _close(ours, definitions.whiten(off * counted, counted, ddof=0))


@pytest.mark.parametrize("whiten", ["token", "sequence", "none"])
def test_gdpo_equals_the_definition(whiten):
  _, mask, present, _ = _rewards(16)
  rng = np.random.default_rng(17)
  parts, weight = rng.normal(size=(3, 4, 2)).astype(np.float32), np.float32([[1.0, 0.5]] * 3)
  parts[0, 1, 0], parts[2, 3] = np.nan, np.nan
  total = sum(weight[0, m] * definitions.grpo(parts[..., m], present) for m in (0, 1))
  valid = (present > 0) & np.isfinite(parts).any(-1)
  if whiten == "sequence":
    values = total[valid]
    total = np.where(valid, (total - values.mean()) / (values.std(ddof=1) + 1e-8), 0.0)
  counted = mask * valid[..., None]
  wanted = total[..., None] * counted
  wanted = definitions.whiten(wanted, counted) if whiten == "token" else wanted
  _close(advantages.gdpo(parts, weight, mask, present, whiten=whiten), wanted)


def test_gdpo_with_one_reward_is_whitened_grpo():
  reward, mask, present, counted = _rewards(18)
  ours = advantages.gdpo(reward[..., None], np.ones((3, 1), np.float32), mask, present)
  one = np.asarray(advantages.grpo(reward, present))[..., None] * counted
  _close(ours, definitions.whiten(one, counted))


def test_fewer_than_two_tokens_whiten_to_zero():
  reward, value, mask = np.ones((3, 1, 1, 2), np.float32)
  mask[..., 1] = 0
  assert (np.asarray(advantages.gae(reward, value, mask)) == 0).all()
  assert (np.asarray(advantages.reinforce_pp(reward, 0 * mask)) == 0).all()


@pytest.mark.parametrize("name", ["gae", "value_target", "vapo_gae"])
def test_an_unscorable_rollout_is_zero_and_leaves_the_others_alone(name):
  reward, value, mask = _draw(19)
  reward[2, 1, np.argmax(mask[2, 1])] = np.nan
  without = mask.copy()
  without[2, 1] = 0
  fn = getattr(advantages, name)
  np.testing.assert_array_equal(fn(reward, value, mask), fn(np.nan_to_num(reward), value, without))


def test_spread_reaches_counted_tokens_only():
  mask = np.float32([[[1, 1, 1, 0], [0, 1, 1, 1]]])
  segment = np.int32([[[0, 1, 2, 0], [0, -1, 1, 5]]])
  by_segment = np.float32([[[1.0, 2.0], [3.0, 4.0]]])
  np.testing.assert_array_equal(spread(by_segment, mask, segment), [[[1, 2, 0, 0], [0, 0, 4, 0]]])
  np.testing.assert_array_equal(
    spread(np.float32([[5.0, 6.0]]), mask, segment), [[[5, 5, 5, 0], [0, 6, 6, 6]]]
  )
  with pytest.raises(Refused, match=r"shape \[B, K\] or \[B, K, S\]; it has \(1,\)"):
    spread(np.ones(1), mask, segment)
