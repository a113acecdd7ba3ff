"""The tabular part of pref_ranking against the card's equations, derived anew in numpy."""

import importlib
import pathlib
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def tabular():
  sys.path.insert(0, str(ROOT))
  return importlib.import_module("experiments.pref_ranking.tabular")


PROBLEM = dict(prompts=60, outputs=5, ref_scale=3.0, reward_scale=2.0)


def _config(**changes):
  values = dict(seed=3, problem=PROBLEM, beta=0.1, gamma=1.0, lr=0.05, steps=50, at=())
  return ConfigDict(values | changes)


def test_the_majority_comes_first_and_its_share_is_the_logistic_of_the_reward_gap(tabular):
  ref, pair, alpha = tabular.problem(3, **PROBLEM)
  rng = np.random.default_rng(3)
  np.testing.assert_array_equal(ref, rng.normal(0.0, 3.0, (60, 5)))
  reward = rng.normal(0.0, 2.0, (60, 5))
  gap = reward[np.arange(60), pair[:, 0]] - reward[np.arange(60), pair[:, 1]]
  assert (gap > 0).all() and (pair[:, 0] != pair[:, 1]).all()
  np.testing.assert_allclose(alpha, 1 / (1 + np.exp(-gap)), rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_descent_equals_the_recursion_of_the_log_ratio(tabular, gamma):
  """The pair's two logits move apart by lr * beta * sigmoid(-beta (d + gamma c)) each."""
  ref, pair, _ = tabular.problem(3, **PROBLEM)
  d = ref[np.arange(60), pair[:, 0]] - ref[np.arange(60), pair[:, 1]]
  c = -d
  for _ in range(50):
    d = d + 2 * 0.05 * 0.1 / (1 + np.exp(0.1 * (d + gamma * c)))
  out = tabular.hard(_config(gamma=gamma))
  np.testing.assert_allclose(out["loss"], np.log1p(np.exp(-0.1 * (d + gamma * c))).mean())
  np.testing.assert_allclose(out["ranking_accuracy"], (d >= 0).mean(), rtol=1e-6)
  np.testing.assert_allclose(out["reward_accuracy"], (d + c > 0).mean(), rtol=1e-6)
  np.testing.assert_allclose(out["flipped"], ((d >= 0) & (c > 0)).sum() / (c > 0).sum())


def test_a_broken_theorem_is_counted(tabular, monkeypatch):
  """With another gamma in the threshold than in the loss, Theorem 4.1 fails for some pairs."""
  real = tabular.metrics.difficulty
  monkeypatch.setattr(
    tabular.metrics, "difficulty", lambda ref, beta=0.1, gamma=1.0: real(ref, beta=beta, gamma=0.3)
  )
  assert tabular.hard(_config(steps=51))["theorem_41_broken"] > 0


def test_soft_labels_stop_short_of_the_optimum_when_there_are_too_few_steps(tabular):
  short = tabular.soft(_config(beta=1.0, lr=3.8, steps=50))
  long = tabular.soft(_config(beta=1.0, lr=3.8, steps=100_000))
  assert short["largest_error"] > 1e-3 > 1e-9 > long["largest_error"]
  assert long["pairs_unlike_ideal"] == 0


def test_a_loss_that_is_never_reached_is_refused(tabular):
  with pytest.raises(ValueError, match="never falls to 0.01"):
    tabular.hard(_config(at=(0.01,)))


def test_a_pairs_report_equals_the_definitions():
  sys.path.insert(0, str(ROOT))
  language = importlib.import_module("experiments.pref_ranking.language")
  rng = np.random.default_rng(0)
  logp, ref = rng.normal(-40.0, 8.0, (2, 500, 2)).astype(np.float32)
  length = rng.integers(5, 30, (500, 2)).astype(np.float32)
  out = language.pair_report(logp, ref, length, beta=0.1, gamma=0.5)
  (lw, ll), (rw, rl), (nw, nl) = (np.float64(x).T for x in (logp, ref, length))
  d, c = lw - ll, rl - rw
  flipped, wrong = out.pop("flipped")
  unlearned, right = out.pop("unlearned")
  wanted = {
    "loss": np.log1p(np.exp(-0.1 * (d + 0.5 * c))),
    "gap": c,
    "reward_accuracy": d + c > 0,
    "theorem_41_broken": np.zeros(500),
    "ideal_accuracy": np.log(1000) / 0.1 > c,
    "ranking_accuracy": d >= 0,
    "ranking_accuracy_normalised": lw / nw >= ll / nl,
  }
  assert set(out) == set(wanted)
  for name, value in wanted.items():
    np.testing.assert_allclose(out[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
  np.testing.assert_array_equal(np.asarray(wrong, bool), c > 0)
  np.testing.assert_array_equal(np.asarray(right, bool), c <= 0)
  np.testing.assert_array_equal(np.asarray(flipped, bool), (c > 0) & (d >= 0))
  np.testing.assert_array_equal(np.asarray(unlearned, bool), (c <= 0) & (d < 0))
