"""Advantages and selections of a batch of rollouts, as a config names them."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import advantages, estimate, recipe, recipes_rl
from jaxpref.types import Refused

B, K, T = 3, 4, 5


def _config(**sections):
  config = recipe.base()
  for name, section in sections.items():
    config[name] = section
  return config


def _batch(seed=0):
  rng = np.random.default_rng(seed)
  mask = (np.arange(T) < rng.integers(1, T + 1, (B, K, 1))).astype(np.float32)
  draw = lambda: jnp.asarray(-rng.gamma(2.0, 1.0, (B, K, T)) * mask, jnp.float32)
  return {
    "reward": jnp.asarray(rng.normal(size=(B, K)), jnp.float32),
    "present": jnp.ones((B, K)),
    "mask": jnp.asarray(mask),
    "old_token_logp": draw(),
    "ref_token_logp": draw(),
    "sampler_token_logp": draw(),
    "old_value": draw(),
  }


def test_a_run_without_rollouts_makes_nothing():
  plan = estimate.plan(_config())
  assert estimate.apply(plan, {"mask": jnp.ones((1, 1, 2))}) == {}
  assert not estimate.reads(plan) and not estimate.made(plan)


def test_several_estimators_are_added_with_their_weights_on_the_tokens_that_count():
  terms = {"a": recipe.advantage("grpo"), "b": recipe.advantage("rloo", weight=0.5)}
  plan, batch = estimate.plan(_config(advantages=terms)), _batch()
  found = estimate.apply(plan, batch)
  one = advantages.grpo(batch["reward"], batch["present"])
  other = advantages.rloo(batch["reward"], batch["present"])
  wanted = (one + 0.5 * other)[..., None] * batch["mask"]
  assert set(found) == {"advantage"} == estimate.made(plan)
  np.testing.assert_allclose(found["advantage"], wanted, rtol=1e-6, atol=1e-7)


def test_the_kl_comes_off_the_reward_once_per_token():
  config = _config(advantages={"a": recipe.advantage("dr_grpo")})
  config.rollout.update(kl_in_reward=0.3, kl_estimate="k1")
  plan, batch = estimate.plan(config), _batch()
  assert {"old_token_logp", "ref_token_logp"} <= estimate.reads(plan)
  x = {k: np.float64(v) for k, v in batch.items()}
  kl = ((x["old_token_logp"] - x["ref_token_logp"]) * x["mask"]).sum(-1)
  reward = x["reward"] - 0.3 * kl
  wanted = (reward - reward.mean(1, keepdims=True))[..., None] * x["mask"]
  np.testing.assert_allclose(estimate.apply(plan, batch)["advantage"], wanted, rtol=2e-5, atol=2e-6)


def test_a_critic_gives_the_value_and_its_target():
  config = _config(advantages={"a": recipe.advantage("gae", lam=1.0, whiten="none")})
  plan, batch = estimate.plan(config), _batch()
  assert estimate.made(plan) == {"advantage", "returns"} and "old_value" in estimate.reads(plan)
  found = estimate.apply(plan, batch)
  returns = np.asarray(batch["reward"])[..., None] * np.asarray(batch["mask"])
  np.testing.assert_allclose(found["returns"], returns, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(
    found["advantage"], returns - np.asarray(batch["old_value"]), rtol=1e-5, atol=1e-5
  )


def test_selectors_and_corrections_are_multiplied():
  chosen = {"a": recipe.selector("dynamic_sampling"), "b": recipe.selector("token_tis")}
  plan, batch = estimate.plan(_config(selectors=chosen)), _batch()
  batch["reward"] = batch["reward"].at[1].set(2.0)  # a group without variance
  keep = np.asarray(estimate.apply(plan, batch)["keep"])
  ratio = np.exp(np.asarray(batch["old_token_logp"] - batch["sampler_token_logp"]))
  counted = np.asarray(batch["mask"])[[0, 2]] > 0
  assert (keep[1] == 0).all()
  np.testing.assert_allclose(keep[[0, 2]][counted], np.minimum(ratio, 2.0)[[0, 2]][counted], 1e-5)


@pytest.mark.parametrize(
  ("sections", "words"),
  [
    (dict(advantages={"a": {"fn": "grop", "weight": 1.0}}), "Did you mean 'grpo'"),
    (dict(selectors={"a": {"fn": "dynamic_samplin"}}), "Did you mean 'dynamic_sampling'"),
    (dict(selectors={"a": {"fn": "opsm", "delta": 0.05}}), "both are the same"),
    (dict(advantages={"a": {"fn": "grpo", "weight": 1.0, "epz": 0.1}}), "has no hyperparameter"),
  ],
)
def test_unknown_names_are_refused(sections, words):
  with pytest.raises(Refused, match=words):
    estimate.plan(_config(**sections))


@pytest.mark.parametrize("name", recipes_rl.RECIPES)
def test_every_published_setting_gives_terms_and_an_estimator(name):
  config = recipe.base()
  config.rollout.max_new = 20
  recipes_rl.fill(config, name)
  plan = estimate.plan(config)
  assert "advantage" in estimate.made(plan) and "main" in config.objectives
  for term in config.objectives.values():
    assert "constant" not in term["reduce"] or term["reduce_constant"] == 20.0


def test_an_unknown_setting_is_refused_with_the_nearest():
  with pytest.raises(Refused, match="Did you mean 'dapo'"):
    recipes_rl.fill(recipe.base(), "dap")
