"""Ranking metrics against the recorded arrays, float64 definitions and the card's worked values."""

import os
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from jaxpref import call, metrics, objectives

GOLDEN = pathlib.Path(
  os.environ.get("JAXPREF_GOLDEN", pathlib.Path(__file__).parent.parent / "golden")
)
NAMES = [n for n in sorted(call.functions(metrics)) if hasattr(metrics.ranking, n)]


@pytest.fixture(scope="module")
def golden():
  with np.load(GOLDEN / "pref_ranking.npz", allow_pickle=False) as file:
    return {k: file[k] for k in file.files}


def _inputs(seed, b=64, k=2):
  rng = np.random.default_rng(seed)
  logp, ref_logp = rng.normal(-30.0, 6.0, (2, b, k)).astype(np.float32)
  length = rng.integers(1, 40, (b, k)).astype(np.float32)
  label = rng.choice([0.0, 0.25, 0.5, 0.75, 1.0], b).astype(np.float32)
  relevance = rng.permuted(np.tile(np.arange(k, dtype=np.float32)[::-1], (b, 1)), axis=1)
  return dict(logp=logp, ref_logp=ref_logp, length=length, label=label, relevance=relevance)


def _by_hand(a, beta=0.1, gamma=1.0, floor=0.001):
  """The card's equations, one pair at a time in float64."""
  rows = []
  for logp, ref, n, label in zip(a["logp"], a["ref_logp"], a["length"], a["label"], strict=True):
    (lw, ll), (rw, rl), (nw, nl) = (np.float64(x) for x in (logp, ref, n))
    d, c = lw - ll, rl - rw
    log_odds = np.log(max(label, floor) / max(1.0 - np.float64(label), floor))
    sign = 1.0 if label >= 0.5 else -1.0
    rows.append(
      {
        "ranking_accuracy": lw >= ll,
        "ranking_accuracy_normalised": lw / nw >= ll / nl,
        "reward_accuracy": d + c > 0,
        "reward_ties": d + c == 0,
        "rewards/chosen": beta * (lw - rw),
        "rewards/rejected": beta * (ll - rl),
        "rewards/margins": beta * (d + c),
        "rewards/accuracies": d + c > 0,
        "logps/chosen": lw,
        "logps/rejected": ll,
        "logps/minus_ref": (lw - rw + ll - rl) / 2,
        "logps/accuracies": lw >= ll,
        "logps/accuracies_normalised": lw / nw >= ll / nl,
        "ideal_accuracy": sign * (-c + log_odds / beta) > 0,
        "ideal_accuracy_normalised": sign * (rw / nw - rl / nl + log_odds / beta) > 0,
        "difficulty/gap": c,
        "difficulty/threshold": -np.log(1 / (1 + np.exp(-beta * gamma * c))),
        "flips/right_right": c <= 0 and d >= 0,
        "flips/right_wrong": c <= 0 and d < 0,
        "flips/wrong_right": c > 0 and d >= 0,
        "flips/wrong_wrong": c > 0 and d < 0,
      }
    )
  return {k: np.asarray([float(r[k]) for r in rows]) for k in rows[0]}


class DefinitionTest(chex.TestCase, parameterized.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters(*[n for n in NAMES if n != "order_accuracy"])
  def test_equals_the_definition(self, name):
    arrays = _inputs(0)
    fn = getattr(metrics, name)
    out = self.variant(fn)(*(arrays[n] for n in call.needs(fn)))
    wanted = _by_hand(arrays)
    for key, value in out.items():
      assert value.dtype == jnp.float32
      np.testing.assert_allclose(value, wanted[key], rtol=2e-6, atol=2e-6, err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_permuting_the_pairs_permutes_the_result(name):
  arrays, fn = _inputs(1), getattr(metrics, name)
  order = np.random.default_rng(2).permutation(64)
  out = fn(*(arrays[n] for n in call.needs(fn)))
  moved = fn(*(arrays[n][order] for n in call.needs(fn)))
  for key in out:
    np.testing.assert_array_equal(out[key][order], moved[key])


@pytest.mark.parametrize("normalised", [False, True])
def test_ideal_accuracy_equals_the_papers_formula_on_recorded_arrays(golden, normalised):
  ref = jnp.asarray(np.stack([golden["logp_1"], golden["logp_2"]], 1), jnp.float32)
  length = jnp.asarray(np.stack([golden["tokens_1"], golden["tokens_2"]], 1), jnp.float32)
  label = jnp.asarray(golden["alpha_1"], jnp.float32)
  kept = golden["alpha_1"] != 0.5
  got = []
  for beta in golden["betas"].tolist():
    if normalised:
      out = metrics.ideal_accuracy_normalised(ref, length, label, beta=beta)
    else:
      out = metrics.ideal_accuracy(ref, label, beta=beta)
    got.append(np.asarray(next(iter(out.values())))[kept].mean())
  suffix = "normalised" if normalised else "unnormalised"
  np.testing.assert_allclose(got, golden[f"paper_ideal_acc_{suffix}"], rtol=1e-6)


@pytest.mark.parametrize("suffix", ["normalised", "unnormalised"])
def test_four_responses_match_exactly_the_recorded_ranks_and_no_others(golden, suffix):
  logp = jnp.asarray(golden["n4_logp"], jnp.float32)
  length = jnp.asarray(golden["n4_tokens"], jnp.float32)
  ranks = golden[f"n4_rank_{suffix}"].astype(np.float32)
  key = "_normalised" if suffix == "normalised" else ""
  out = metrics.order_accuracy(logp, length, -ranks)
  np.testing.assert_array_equal(out[f"order_accuracy{key}"], 1.0)
  np.testing.assert_array_equal(out[f"order_pairs{key}"], 1.0)
  swapped = np.where(ranks == 1, 2, np.where(ranks == 2, 1, ranks))
  out = metrics.order_accuracy(logp, length, -swapped)
  np.testing.assert_array_equal(out[f"order_accuracy{key}"], 0.0)
  np.testing.assert_allclose(out[f"order_pairs{key}"], 5 / 6, rtol=1e-6)


def test_margins_of_recorded_pairs_agree_with_the_sign_of_their_loss(golden):
  pc, pr, rc, rr = golden["logps_pc_pr_rc_rr"].astype(np.float32)
  right = metrics.reward_accuracy(np.stack([pc, pr], 1), np.stack([rc, rr], 1))
  below = golden["loss_sigmoid"] < np.log(2.0)
  np.testing.assert_array_equal(np.asarray(right["reward_accuracy"]) == 1, below)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_recorded_losses_fall_below_the_threshold_exactly_where_the_pair_is_ranked(golden, gamma):
  pc, pr, rc, rr = golden["logps_pc_pr_rc_rr"]
  threshold = metrics.difficulty(
    np.stack([rc, rr], 1).astype(np.float32), beta=float(golden["beta"]), gamma=gamma
  )["difficulty/threshold"]
  np.testing.assert_array_equal(golden[f"loss_dpo_gamma_{gamma}"] <= threshold, pc >= pr)


@pytest.mark.parametrize("c,threshold", [(5.0, 0.474077), (50.0, 0.006715), (-5.0, 0.974077)])
def test_thresholds_of_the_cards_example(c, threshold):
  out = metrics.difficulty(jnp.asarray([[0.0, c]]), beta=0.1)
  np.testing.assert_allclose(out["difficulty/threshold"], threshold, atol=5e-7)
  np.testing.assert_array_equal(out["difficulty/gap"], c)


def test_equal_likelihoods_put_the_loss_on_the_threshold():
  ref = jnp.asarray(_inputs(3)["ref_logp"])
  for gamma in (0.0, 0.5, 1.0, 2.0):
    loss, _ = objectives.dpo(jnp.zeros_like(ref), ref, beta=0.1, gamma=gamma)
    out = metrics.difficulty(ref, beta=0.1, gamma=gamma)
    np.testing.assert_allclose(loss, out["difficulty/threshold"], rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_a_pair_is_ranked_exactly_when_its_loss_is_below_its_threshold(gamma):
  with jax.enable_x64(True):
    rng = np.random.default_rng(4)
    logp, ref = (jnp.asarray(rng.normal(-40.0, 10.0, (5000, 2))) for _ in range(2))
    loss, _ = objectives.dpo(logp, ref, beta=0.1, gamma=gamma)
    bound = metrics.difficulty(ref, beta=0.1, gamma=gamma)["difficulty/threshold"]
    ranked = metrics.ranking_accuracy(logp, jnp.ones_like(logp))["ranking_accuracy"]
    np.testing.assert_array_equal(loss <= bound, ranked == 1)


def test_a_loss_of_06_ranks_every_pair_that_the_reference_ranks():
  arrays = _inputs(5, b=4000)
  loss, _ = objectives.dpo(arrays["logp"], arrays["ref_logp"], beta=0.1)
  gap = metrics.difficulty(arrays["ref_logp"])["difficulty/gap"]
  ranked = metrics.ranking_accuracy(arrays["logp"], arrays["length"])["ranking_accuracy"]
  chosen = np.asarray((gap <= 0) & (loss <= 0.6))
  assert chosen.sum() > 100
  np.testing.assert_array_equal(np.asarray(ranked)[chosen], 1.0)


def test_even_votes_or_a_large_beta_leave_the_references_ranking():
  arrays = _inputs(6)
  ref, strong = arrays["ref_logp"], np.full(64, 0.9, np.float32)
  own = metrics.ranking_accuracy(ref, arrays["length"])["ranking_accuracy"]
  even = metrics.ideal_accuracy(ref, np.full(64, 0.5, np.float32), beta=0.1)
  large = metrics.ideal_accuracy(ref, strong, beta=1e6)
  small = metrics.ideal_accuracy(ref, strong, beta=1e-4)
  np.testing.assert_array_equal(even["ideal_accuracy"], own)
  np.testing.assert_array_equal(large["ideal_accuracy"], own)
  np.testing.assert_array_equal(small["ideal_accuracy"], 1.0)


def test_ideal_accuracy_does_not_rise_with_beta():
  arrays = _inputs(7, b=2000)
  label = np.random.default_rng(8).uniform(0.5, 1.0, 2000).astype(np.float32)
  means = [
    float(metrics.ideal_accuracy(arrays["ref_logp"], label, beta=b)["ideal_accuracy"].mean())
    for b in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
  ]
  assert means == sorted(means, reverse=True) and means[0] > means[-1]


@pytest.mark.parametrize("label,limit", [(0.75, 10.986123), (1.0, 69.077553), (0.999, 69.067548)])
def test_a_pair_is_out_of_reach_exactly_beyond_the_log_odds_over_beta(label, limit):
  for factor, right in ((1 - 1e-5, 1.0), (1 + 1e-5, 0.0)):
    ref = jnp.asarray([[-limit * factor, 0.0]], jnp.float32)
    out = metrics.ideal_accuracy(ref, jnp.asarray([label]), beta=0.1)
    assert float(out["ideal_accuracy"][0]) == right


def test_swapping_responses_and_votes_leaves_the_ideal_ranking():
  arrays = _inputs(9)
  label = np.where(arrays["label"] == 0.5, 0.75, arrays["label"]).astype(np.float32)
  out = metrics.ideal_accuracy(arrays["ref_logp"], label)
  swapped = metrics.ideal_accuracy(arrays["ref_logp"][:, ::-1], 1.0 - label)
  np.testing.assert_array_equal(out["ideal_accuracy"], swapped["ideal_accuracy"])


def test_equal_lengths_make_both_ranking_accuracies_equal():
  arrays = _inputs(10)
  out = metrics.ranking_accuracy(arrays["logp"], np.full((64, 2), 7.0, np.float32))
  np.testing.assert_array_equal(out["ranking_accuracy"], out["ranking_accuracy_normalised"])


def test_an_untrained_policy_has_only_reward_ties_and_no_flip():
  ref = np.concatenate([_inputs(11)["ref_logp"], np.full((3, 2), -5.0, np.float32)])
  right = metrics.reward_accuracy(ref, ref)
  np.testing.assert_array_equal(right["reward_accuracy"], 0.0)
  np.testing.assert_array_equal(right["reward_ties"], 1.0)
  groups = metrics.flip_groups(ref, ref)
  np.testing.assert_array_equal(groups["flips/wrong_right"] + groups["flips/right_wrong"], 0.0)


def test_every_pair_is_in_exactly_one_flip_group():
  arrays = _inputs(12)
  groups = metrics.flip_groups(arrays["logp"], arrays["ref_logp"])
  np.testing.assert_array_equal(sum(groups.values()), 1.0)


def test_a_random_policy_matches_four_responses_once_in_24():
  arrays = _inputs(13, b=20_000, k=4)
  out = metrics.order_accuracy(arrays["logp"], arrays["length"], arrays["relevance"])
  p = 1 / 24  # tolerance: 4 standard errors
  assert abs(float(out["order_accuracy"].mean()) - p) < 4 * np.sqrt(p * (1 - p) / 20_000)


def test_order_of_two_is_the_ranking_accuracy():
  arrays = _inputs(14)
  out = metrics.order_accuracy(
    arrays["logp"], arrays["length"], np.tile(np.float32([1, 0]), (64, 1))
  )
  pair = metrics.ranking_accuracy(arrays["logp"], arrays["length"])
  for suffix in ("", "_normalised"):
    np.testing.assert_array_equal(out[f"order_accuracy{suffix}"], pair[f"ranking_accuracy{suffix}"])


def test_grades_without_order_ask_for_nothing():
  arrays = _inputs(15, k=3)
  out = metrics.order_accuracy(arrays["logp"], arrays["length"], np.ones((64, 3), np.float32))
  np.testing.assert_array_equal(out["order_accuracy"], 1.0)
  np.testing.assert_array_equal(out["order_pairs"], 0.0)


@pytest.mark.parametrize("gap", [-1e6, 1e6])
@pytest.mark.parametrize("name", NAMES)
def test_finite_at_extremes(name, gap):
  arrays = dict(
    logp=jnp.asarray([[gap, 0.0]]),
    ref_logp=jnp.asarray([[-gap, 0.0]]),
    length=jnp.asarray([[0.0, 1.0]]),
    label=jnp.asarray([1.0]),
    relevance=jnp.asarray([[1.0, 0.0]]),
  )
  chex.assert_tree_all_finite(call.feed(getattr(metrics, name), arrays))
