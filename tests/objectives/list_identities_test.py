"""Worked values and identities of listwise objectives: what they become in special cases."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import objectives as o

WORKED = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])  # a = 1, b = -0.5, h = 1.5
HARD = jnp.asarray([[99.0, 0.0]])
ONE = jnp.ones((1, 2))


def _pairs(seed, rows=7):
  logp, ref = jnp.asarray(np.random.default_rng(seed).normal(-20.0, 4.0, (2, rows, 2)), jnp.float32)
  return logp, ref, jnp.tile(HARD, (rows, 1)), jnp.ones((rows, 2))


def _scores(seed, k=5, rows=7):
  rng = np.random.default_rng(seed)
  score = jnp.asarray(rng.normal(0.0, 2.0, (rows, k)), jnp.float32)
  relevance = jnp.asarray(np.argsort(rng.random((rows, k)), 1), jnp.float32)
  return score, relevance, jnp.ones((rows, k))


def _close(left, right, rtol=1e-5):
  np.testing.assert_allclose(left, right, rtol=rtol, atol=1e-6)


def _same(left, right, *arrays):
  """Equal values and equal gradients with respect to the first array."""
  _close(left(arrays[0]), right(arrays[0]))
  slope = lambda fn: jax.grad(lambda x: fn(x).sum())(arrays[0])
  _close(slope(left), slope(right), rtol=1e-4)


@pytest.mark.parametrize("name", ["pl_dpo", "infonca", "dpo_rw", "lipo_logistic"])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_two_responses_and_hard_labels_are_dpo(name, beta):
  logp, ref, hard, present = _pairs(0)
  fn = getattr(o, name)
  listwise = lambda x: fn(x, ref, hard, present, beta=beta)[0]
  _same(listwise, lambda x: o.dpo(x, ref, beta=beta)[0], logp)


def test_two_responses_report_the_metrics_of_a_pair():
  logp, ref, hard, present = _pairs(1)
  listwise, pair = o.pl_dpo(logp, ref, hard, present)[1], o.dpo(logp, ref)[1]
  for name in ("rewards/margins", "rewards/accuracies"):
    _close(listwise[name][0], pair[name])
    np.testing.assert_array_equal(listwise[name][1], 1.0)
  _close(listwise["rewards/mean"][0], (pair["rewards/chosen"] + pair["rewards/rejected"]) / 2)


def test_s_dpo_against_one_is_dpo_and_starts_at_log_k():
  logp, ref, _, present = _pairs(2)
  _same(lambda x: o.s_dpo(x, ref, present, beta=0.3)[0],
        lambda x: o.dpo(x, ref, beta=0.3)[0], logp)  # fmt: skip
  for k in (2, 5):
    _close(o.s_dpo(jnp.ones((1, k)), jnp.ones((1, k)), jnp.ones((1, k)))[0], np.log(k))


def test_rm_of_two_candidates_is_bradley_terry():
  score, _, present = _scores(3, k=2)
  grades = jnp.tile(jnp.asarray([1.0, 0.0]), (7, 1))
  for fn in (o.plackett_luce, o.rm_all_pairs, o.ranklist, o.ranklist_skip):
    _same(lambda x, fn=fn: fn(x, grades, present)[0], lambda x: o.bradley_terry(x)[0], score)


def test_pl_dpo_is_rm_pl_on_implicit_rewards():
  score, relevance, present = _scores(4)
  plain = o.plackett_luce(score, relevance, present)[0]
  _close(o.pl_dpo(score / 0.1, 0 * score, relevance, present, beta=0.1)[0], plain)


def test_worked_values_of_the_catalogue():
  r, zero, full = jnp.asarray([[0.5, 0.1, -0.4]]), jnp.zeros((1, 3)), jnp.ones((1, 3))
  grades = jnp.asarray([[1.0, 0.5, 0.0]])
  assert f"{o.pl_dpo(r, zero, grades, full, beta=1.0)[0][0]:.6f}" == "1.204948"
  assert f"{o.plackett_luce(r, grades, full)[0][0]:.6f}" == "1.204948"
  assert f"{o.lipo_lambda(r, zero, grades, full, beta=1.0)[0][0]:.6f}" == "0.443195"
  nca = o.nca(*WORKED, HARD, ONE, beta=0.1)[0][0]
  assert f"{nca:.6f}" == "1.350825"
  labels = jnp.log(jnp.asarray([[0.999, 0.001]]))
  _close(o.exo(*WORKED, labels, ONE, beta=0.1)[0], 2.505517, rtol=2e-6)


def test_top_one_is_a_softmax_of_the_best_and_all_places_are_the_default():
  score, relevance, present = _scores(5)
  best = jax.nn.one_hot(relevance.argmax(1), 5)
  _close(
    o.plackett_luce(score, relevance, present, top=1)[0], o.list_softmax(score, best, present)[0]
  )
  _close(
    o.plackett_luce(score, relevance, present, top=5)[0],
    o.plackett_luce(score, relevance, present)[0],
  )
  parts = [o.plackett_luce(score, relevance, present, top=t)[0] for t in (1, 2, 3, 4)]
  assert all((a < b).all() for a, b in zip(parts, parts[1:], strict=False))


def test_plackett_luce_probabilities_of_all_orders_sum_to_one():
  score = _scores(6, k=4, rows=1)[0]
  orders = np.asarray(list(itertools.permutations(range(4))), np.float32)
  loss = o.plackett_luce(jnp.tile(score, (24, 1)), jnp.asarray(orders), jnp.ones((24, 4)))[0]
  _close(jnp.exp(-loss).sum(), 1.0)


def test_exo_is_zero_where_shares_agree_and_forward_loss_is_then_the_entropy():
  score, relevance, present = _scores(7)
  agree = relevance / 0.7 / 0.3
  _close(o.exo(agree, 0 * agree, relevance, present, beta=0.3, temperature=0.7)[0], 0.0)
  p = np.asarray(jax.nn.softmax(relevance / 0.7))
  entropy = -(p * np.log(p)).sum(1)
  _close(o.dpo_rw(agree, 0 * agree, relevance, present, beta=0.3, temperature=0.7)[0], entropy)
  assert (o.exo(score, 0 * score, relevance, present)[0] > 0).all()


def test_nca_pair_pushes_to_an_absolute_reward_of_log_two():
  at = lambda a: jnp.asarray([[a, -3.0]])
  slope = jax.grad(lambda x: o.nca(x, jnp.zeros((1, 2)), HARD, ONE, beta=1.0)[0].sum())
  # d/da = -(1 - 1.5 s(a)) is 0 at a = log 2
  assert abs(slope(at(np.log(2)))[0, 0]) < 1e-6
  _close(slope(at(0.3))[0, 0], -(1 - 1.5 / (1 + np.exp(-0.3))))
  _close(slope(at(0.3))[0, 0], slope(jnp.asarray([[0.3, 5.0]]))[0, 0])


def test_nca_at_the_reference_is_two_log_two_and_infonca_log_k():
  flat, grades = jnp.zeros((3, 4)), _scores(8, k=4, rows=3)[1]
  _close(o.nca(flat, flat, grades, jnp.ones((3, 4)))[0], 2 * np.log(2))
  _close(o.infonca(flat, flat, grades, jnp.ones((3, 4)))[0], np.log(4))


def test_lambda_weights_of_dcg_are_log_two_times_lipo_lambda():
  score, relevance, present = _scores(9)
  grades = relevance / 4
  lipo = o.lipo_lambda(score, 0 * score, grades, present, beta=1.0)[0]
  _close(o.list_lambda_dcg(score, grades, present)[0], np.log(2) * lipo)


def test_binary_grades_make_the_label_difference_the_plain_sum():
  score, relevance, present = _scores(10)
  binary = (relevance > 2).astype(jnp.float32)
  plain = o.rm_all_pairs(score, binary, present, pairs="sum")[0]
  _close(o.list_lambda_labeldiff(score, binary, present)[0], plain)


def test_lists_of_equal_grades_ask_for_nothing():
  score, relevance, present = _scores(11)
  for fn in (o.rm_all_pairs, o.list_hinge, o.list_zero_one, o.list_lambda_dcg, o.list_lambda_dcg2,
             o.list_lambda_labeldiff, o.list_unique_softmax, o.ranklist):  # fmt: skip
    np.testing.assert_array_equal(fn(score, 0 * relevance, present)[0], 0.0)


def test_sum_and_mean_over_pairs_differ_by_their_number():
  score, relevance, present = _scores(12)
  for fn in (o.rm_all_pairs, o.list_hinge, o.list_zero_one):
    total, mean = (fn(score, relevance, present, pairs=how)[0] for how in ("sum", "mean"))
    _close(total, 10 * mean)
  total, mean = (o.list_mse(score, relevance, present, pairs=how)[0] for how in ("sum", "mean"))
  _close(total, 25 * mean)


def test_squared_error_is_zero_where_scores_are_grades_plus_a_constant():
  _, relevance, present = _scores(13)
  np.testing.assert_array_equal(o.list_mse(relevance + 3, relevance, present)[0], 0.0)


def test_approx_ndcg_tends_to_minus_ndcg():
  score, relevance, present = _scores(14)
  hard = o.approx_ndcg(score, relevance, present, temperature=1e-4)[0]
  order = np.argsort(-np.asarray(score), 1)
  gain = 2.0 ** np.take_along_axis(np.asarray(relevance), order, 1) - 1
  discount = np.log2(2 + np.arange(5))
  ideal = (2.0 ** np.arange(5)[::-1] - 1) / discount
  _close(hard, -(gain / discount).sum(1) / ideal.sum())
  best = o.approx_ndcg(1e3 * relevance, relevance, present)[0]
  _close(best, -1.0)


def test_ranklist_worked_values_and_bounds_of_the_card():
  s, order, full = jnp.asarray([[2.0, 1.0, 0.0]]), jnp.asarray([[3.0, 2.0, 1.0]]), jnp.ones((1, 3))
  local = o.ranklist(s, order, full, far_weight=0.0)[0][0]
  assert f"{local:.6f}" == "0.626523"
  assert f"{o.ranklist(s, order, full, far='pairs')[0][0]:.6f}" == "0.753451"
  assert f"{o.plackett_luce(s, order, full)[0][0]:.6f}" == "0.720868"
  one = lambda x: o.ranklist(jnp.asarray([x]), jnp.asarray([[1.0, 0.0]]), ONE)[0][0]
  assert f"{one([1.0, 0.0]):.6f}" == "0.313262" and f"{one([0.0, 0.0]):.6f}" == "0.693147"
  score, relevance, present = _scores(15, k=7)
  every = o.ranklist(score, relevance, present, far="pairs")[0]
  assert (o.ranklist(score, relevance, present, far_weight=0.0)[0] <= every).all()
  assert (o.ranklist(score, relevance, present)[0] <= every).all()
  assert (o.plackett_luce(score, relevance, present)[0] <= every).all()
  _close(every, o.rm_all_pairs(score, relevance, present, pairs="sum")[0])


def test_ranklist_with_skip_one_is_local_and_a_large_skip_is_all():
  score, relevance, present = _scores(16)
  run = lambda **knobs: o.ranklist(score, relevance, present, **knobs)[0]
  _close(run(skip=1), run(far_weight=0.0))
  _close(run(skip=4), run())
  assert (run(margin=2.0, far="pairs") < run(far="pairs")).all()
  np.testing.assert_array_equal(run(margin=9.0), 0.0)


def test_skip_wise_means_weighted_by_their_number_are_all_pairs():
  score, relevance, present = _scores(17)
  upto = [0.0] + [o.ranklist_skip(score, relevance, present, skip=k)[0] for k in (1, 2, 3, 4)]
  total = sum((5 - k) * (upto[k] - upto[k - 1]) for k in (1, 2, 3, 4))
  _close(total, o.rm_all_pairs(score, relevance, present, pairs="sum")[0])
  _close(o.ranklist_skip(score, relevance, present, skip=0)[0], upto[4])


def test_ranklist_pushes_the_top_up_and_the_last_down():
  score, relevance, present = _scores(18)
  for fn in (o.ranklist, o.plackett_luce):
    grad = jax.grad(lambda x, fn=fn: fn(x, relevance, present)[0].sum())(score)
    top, last = relevance.argmax(1), relevance.argmin(1)
    assert (grad[np.arange(7), top] <= 0).all() and (grad[np.arange(7), last] >= 0).all()
  assert (o.ranklist(99 * relevance, relevance, present)[0] < 1e-6).all()


def _irpo(r, y, rank, **knobs):
  r, y, rank = (jnp.asarray(x, jnp.float32)[None] for x in (r, y, rank))
  return o.irpo(r, 0 * r, jnp.ones_like(r), y, rank, jnp.ones_like(r), **knobs)[0][0]


def test_irpo_worked_values_of_the_card():
  assert f"{_irpo([0, 0], [1, 0], [1, 2]):.6f}" == "0.346574"
  assert f"{_irpo([1, 0], [1, 0], [1, 2]):.6f}" == "0.156631"
  by_hand = (3 * np.log1p((np.exp(-1) + np.exp(-2)) / 2)
             + np.log1p((np.exp(1) + np.exp(-1)) / 2) / np.log2(3)) / 3  # fmt: skip
  # the card prints 0.420734, which is not what its formula gives
  _close(_irpo([1, 0, -1], [2, 1, 0], [1, 2, 3]), by_hand)


def test_irpo_of_two_items_is_half_of_dpo():
  logp, ref, _, present = _pairs(19)
  first = jnp.tile(jnp.asarray([1.0, 0.0]), (7, 1))
  half = lambda x: 2 * o.irpo(x, ref, present, first, 2 - first, present, beta=0.3)[0]
  _same(half, lambda x: o.dpo(x, ref, beta=0.3)[0], logp)


def test_irpo_without_relevant_items_is_zero_and_at_the_reference_log_two():
  assert _irpo([1, 0, 3], [0, 0, 0], [1, 2, 3]) == 0
  weights = 3 + 1 / np.log2(3)
  _close(_irpo([2, 2, 2], [2, 1, 0], [1, 2, 3]), np.log(2) * weights / 3)
  _close(
    _irpo([1, 0, 2], [1, 1, 1], [1, 2, 3], gain="none"), _irpo([1, 0, 2], [1, 1, 1], [1, 2, 3])
  )


def test_irpo_averages_over_the_tokens_of_an_item():
  logp, ref, grades, present = _pairs(20)
  length = 1 + jnp.arange(14.0).reshape(7, 2)
  grades = grades / 99
  long = o.irpo(logp * length, ref * length, length, grades, 2 - grades, present)[0]
  _close(long, o.irpo(logp, ref, present, grades, 2 - grades, present)[0], rtol=1e-4)


def test_pro_of_two_is_a_logistic_loss_scaled_by_the_grades():
  logp, _, _, present = _pairs(21)
  grades = jnp.tile(jnp.asarray([2.5, 1.0]), (7, 1))
  loss = o.pro(logp, 4 * present, grades, present, sft_weight=0.0)[0]
  _close(loss, jax.nn.softplus(-1.5 * (logp[:, 0] - logp[:, 1]) / 4), rtol=1e-4)
  added = o.pro(logp, 4 * present, grades, present, sft_weight=0.1)[0] - loss
  _close(added, -0.1 * logp[:, 0], rtol=1e-4)
