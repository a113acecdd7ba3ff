"""Advantages of groups against their definitions, worked values, identities, degenerate groups."""

import definitions_advantages as definitions
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import advantages
from jaxpref.types import Refused

R = np.float32([[1.0, 0.0, 0.0, 0.5]])
ONE = np.ones((1, 4), np.float32)
PLAIN = ("grpo", "dr_grpo", "grpo_loo", "rloo", "grpo_passk", "grpo_batch_std", "gpg")
GROUPWISE = (*PLAIN, "maxrl", "passk_analytic")


def _draw(seed, b=5, k=6):
  """Rewards with a group of equal ones, an absent, a nan, and a group of one."""
  rng = np.random.default_rng(seed)
  reward = rng.normal(0.5, 1.0, (b, k)).astype(np.float32)
  present = np.ones((b, k), np.float32)
  reward[1], reward[0, 2] = 0.424, np.nan
  present[2, 3:], present[3, 1:] = 0, 0
  return reward, present


def _binary(seed, b=5, k=6):
  rng = np.random.default_rng(seed)
  reward = (rng.random((b, k)) < 0.4).astype(np.float32)
  reward[0], reward[1], reward[2, 0] = 0, 1, 1
  present = np.ones((b, k), np.float32)
  present[3, 4:] = 0
  return reward, present


@pytest.mark.parametrize("name", PLAIN)
def test_equals_the_definition(name):
  arrays = _draw(0)
  ours, wanted = getattr(advantages, name)(*arrays), getattr(definitions, name)(*arrays)
  np.testing.assert_allclose(ours, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
  ("name", "knobs"), [("maxrl", {})] + [("passk_analytic", {"k": k}) for k in (1, 2, 3)]
)
def test_equals_the_definition_for_right_or_wrong(name, knobs):
  arrays = _binary(1)
  ours, wanted = (
    getattr(advantages, name)(*arrays, **knobs),
    getattr(definitions, name)(*arrays, **knobs),
  )
  np.testing.assert_allclose(ours, wanted, rtol=2e-5, atol=3e-6)


def test_opo_equals_the_definition():
  reward, present = _draw(2)
  mask = (np.random.default_rng(3).random((5, 6, 7)) < 0.6).astype(np.float32)
  ours = advantages.opo(reward, mask, present)
  wanted = definitions.opo(reward, mask, present)
  wanted[1] = 0  # equal rewards
  np.testing.assert_allclose(ours, wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("by", ["length", "efficiency"])
def test_gfpo_equals_the_definition(by):
  reward, present = _draw(4)
  mask = (np.random.default_rng(5).random((5, 6, 40)) < 0.6).astype(np.float32)
  arrays = (reward, mask, present)
  ours = advantages.gfpo(*arrays, retain=3, by=by)
  np.testing.assert_allclose(ours, definitions.gfpo(*arrays, retain=3, by=by), rtol=2e-5, atol=2e-6)
  assert ((np.asarray(ours) != 0).sum(1) <= 3).all()


@pytest.mark.parametrize(
  ("name", "knobs", "wanted"),
  [
    ("grpo", {}, (1.305580, -0.783348, -0.783348, 0.261116)),
    ("grpo", {"eps": 1e-4}, (1.305310, -0.783186, -0.783186, 0.261062)),
    ("grpo", {"ddof": 0, "eps": 1e-9}, (1.507557, -0.904534, -0.904534, 0.301511)),
    ("rloo", {}, (0.833333, -0.5, -0.5, 0.166667)),
  ],
)
def test_worked_values_of_the_catalogue(name, knobs, wanted):
  np.testing.assert_allclose(getattr(advantages, name)(R, ONE, **knobs)[0], wanted, atol=2e-6)


def test_worked_value_of_opo():
  mask = np.float32(np.arange(40) < np.asarray([[10], [20], [30], [40]]))[None]
  np.testing.assert_allclose(R - advantages.opo(R, mask, ONE), 0.3, rtol=1e-6)


@pytest.mark.parametrize(
  ("right", "k", "wanted"),
  [
    (1, 1, (2.645743, -0.377963)),
    (1, 2, (1.732047, -0.247435)),
    (3, 2, (0.745354, -0.447213)),
    (3, 4, (0.277349, -0.166409)),
    (7, 2, (0.0, 0.0)),
  ],
)
def test_worked_values_of_pass_at_k(right, k, wanted):
  reward = np.float32(np.arange(8) < right)[None]
  ours = np.asarray(advantages.passk_analytic(reward, np.ones((1, 8)), k=k))[0]
  np.testing.assert_allclose((ours[0], ours[-1]), wanted, atol=2e-6)
  assert abs(ours.sum()) < 1e-5


def test_worked_value_of_maxrl():
  reward = np.float32(np.arange(8) < 2)[None]
  np.testing.assert_allclose(
    advantages.maxrl(reward, np.ones((1, 8)))[0, 1:3], (3.0, -1.0), rtol=1e-6
  )


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "rloo", "grpo_batch_std", "gpg"])
def test_advantages_of_a_group_sum_to_zero(name):
  np.testing.assert_allclose(getattr(advantages, name)(*_draw(6)).sum(1), 0.0, atol=3e-6)


def test_leave_one_out_is_the_mean_baseline_scaled():
  reward = np.random.default_rng(7).normal(size=(3, 6)).astype(np.float32)
  one = np.ones_like(reward)
  np.testing.assert_allclose(
    advantages.rloo(reward, one), 6 / 5 * advantages.dr_grpo(reward, one), rtol=1e-5
  )


@pytest.mark.parametrize("name", ["grpo", "grpo_loo", "grpo_passk"])
def test_scale_and_shift_change_nothing(name):
  reward, present = _draw(8)
  fn = getattr(advantages, name)
  np.testing.assert_allclose(fn(3 * reward - 5, present), fn(reward, present), rtol=1e-4, atol=1e-5)


def test_opo_with_equal_lengths_is_the_mean_baseline():
  reward, present = _draw(9)
  mask = np.ones((5, 6, 3), np.float32)
  np.testing.assert_allclose(
    advantages.opo(reward, mask, present), advantages.dr_grpo(reward, present), atol=1e-6
  )


def test_pass_at_one_is_grpo_with_the_population_deviation():
  arrays = _binary(10)
  ours = advantages.passk_analytic(*arrays, k=1)
  np.testing.assert_allclose(ours, advantages.grpo(*arrays, ddof=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", GROUPWISE)
def test_no_variance_nan_and_absence_give_exactly_zero(name):
  reward, present = _draw(11)
  ours = np.asarray(getattr(advantages, name)(reward, present))
  gone = (present == 0) | ~np.isfinite(reward)
  assert (ours[1] == 0).all() and (ours[gone] == 0).all() and np.isfinite(ours).all()


@pytest.mark.parametrize("name", GROUPWISE)
@pytest.mark.parametrize("level", [0.1, 0.424, 1e-3, 1e4, -7.3])
def test_equal_rewards_give_exactly_zero_at_every_level(name, level):
  reward = np.full((2, 5), level, np.float32)
  np.testing.assert_array_equal(getattr(advantages, name)(reward, np.ones_like(reward)), 0.0)


@pytest.mark.parametrize("name", [n for n in PLAIN if n != "grpo_passk"])
def test_a_group_of_one_is_zero_or_keeps_its_reward(name):
  reward, one = np.float32([[0.7]]), np.ones((1, 1), np.float32)
  fn = getattr(advantages, name)
  assert fn(reward, one)[0, 0] == 0
  assert abs(fn(reward, one, singleton="keep")[0, 0] - 0.7) < 1e-6
  with pytest.raises(Refused, match="has no singleton='kep'. Did you mean 'keep'"):
    fn(reward, one, singleton="kep")


@pytest.mark.parametrize("name", GROUPWISE)
def test_a_nan_changes_the_others_as_absence_does(name):
  reward, present = _draw(12)
  fn = getattr(advantages, name)
  without = present.copy()
  without[0, 2] = 0
  np.testing.assert_array_equal(fn(reward, present), fn(np.nan_to_num(reward), without))


def test_groups_of_two():
  reward, one = np.float32([[1.0, 0.0]]), np.ones((1, 2), np.float32)
  half = np.sqrt(0.5)
  np.testing.assert_allclose(advantages.grpo(reward, one)[0], (half, -half), rtol=1e-5)
  np.testing.assert_allclose(advantages.grpo_loo(reward, one)[0], (1.0, -1.0), rtol=1e-6)
  np.testing.assert_allclose(advantages.rloo(reward, one)[0], (1.0, -1.0), rtol=1e-6)


def test_noise_of_rounding_gives_no_spikes():
  reward = np.float32([[0.424, 0.424, 0.424, np.nextafter(np.float32(0.424), 1), 1.0]])
  ours = advantages.grpo_loo(reward, np.ones_like(reward))
  assert np.abs(np.asarray(ours)).max() < 10


def test_batch_whitening_of_rloo():
  reward, present = _draw(13)
  ours = np.asarray(advantages.rloo(reward, present, whiten="batch"))[
    (present > 0) & np.isfinite(reward)
  ]
  assert abs(ours.mean()) < 1e-6 and abs(ours.std(ddof=1) - 1) < 1e-3


def test_advantages_have_no_gradient():
  import jax

  grad = jax.grad(lambda r: (advantages.grpo(r, jnp.ones((1, 4))) ** 2).sum())(jnp.asarray(R))
  np.testing.assert_array_equal(grad, 0.0)
