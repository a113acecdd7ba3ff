"""Runs of reward models with each kind of data, best of n, and distillation from a teacher."""

import jax
import numpy as np
import pytest

from jaxpref import assemble, best, evaluate, generate, prepare, recipe, teacher, train
from jaxpref.types import Refused

SMALL = dict(width=32, depth=1, heads=2, kv_heads=1, head_width=16, hidden=64)


def _config(arg, steps=2):
  c = recipe.load(f"configs/reward.py:{arg}")
  c.steps, c.batch, c.log.every, c.checkpoint.every = steps, 8, 1, steps
  c.model.update(SMALL)
  c.tokenizer.update(kind="bytes")
  c.mesh.data = 1
  c.data.sets.main.limit = 16
  c.data.buckets = (256, 1024)
  c.data.max_length = 1024
  for name, section in c.evals.items():
    section.data.limit, section.every = 8 if name == "heldout" else 4, 0
  return c


def _policy(objective, steps=2, **model):
  c = recipe.load(f"tests/small_run.py:objective={objective},evals=False")
  c.steps, c.checkpoint.every = steps, steps
  c.tokenizer.update(kind="bytes")
  c.data.truncate = "drop"
  c.model.update(model)
  return c


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
  """Folder of a trained reward model and its final metrics."""
  folder = tmp_path_factory.mktemp("reward")
  return folder, train.run(_config("objective=bradley_terry", steps=20), folder)


@pytest.mark.slow
@pytest.mark.parametrize(
  "objective",
  [
    *("bradley_terry_margin", "bradley_terry_scaled", "bradley_terry_soft", "regression"),
    *("classify", "ordinal", "orm", "general_preference_gated"),
  ],
)
def test_a_recipe_trains_any_objective_on_what_it_reads(objective, tmp_path):
  final = train.run(_config(f"objective={objective}"), tmp_path)
  names = {"heldout/rewards/accuracies", "heldout/rewards/ece", "hh_harmless/rewards/margins/q50"}
  assert names <= set(final) and np.isfinite(list(final.values())).all()


@pytest.mark.slow
def test_regression_on_other_attributes_than_the_model_has_is_refused(tmp_path):
  config = _config("objective=regression")
  config.model.parts = 3
  with pytest.raises(Refused, match="3 parts but the data have 1 attributes.*model.parts=1"):
    train.run(config, tmp_path)


@pytest.mark.slow
def test_step_labels_that_no_data_have_are_refused_before_compiling(tmp_path):
  with pytest.raises(Refused, match="read step_label, which this run does not make"):
    train.run(_config("objective=prm"), tmp_path)


@pytest.mark.slow
def test_best_of_n_returns_the_sample_with_the_highest_score(tmp_path, judge):
  judge, _ = judge
  train.run(_policy("nll"), tmp_path)
  prompts = ["interest in art:", "risk averse:"]
  every = generate.run(tmp_path, prompts, count=4, max_new=6)
  found = generate.run(tmp_path, prompts, best_of=4, reward=judge, max_new=6)
  said = [[s["response"] for s in every[i : i + 4]] for i in (0, 4)]
  score = best.scores(judge, prompts, said)
  assert score.shape == (2, 4) and (score.std(1) > 0).all()
  for i, one in enumerate(found):
    assert one["response"] == said[i][int(score[i].argmax())]
    np.testing.assert_allclose(one["score"], score[i].max(), rtol=1e-6)
    np.testing.assert_allclose(one["mean_score"], score[i].mean(), rtol=1e-5, atol=1e-6)
  with pytest.raises(Refused, match="holds a language model; best of n needs"):
    generate.run(tmp_path, prompts, best_of=2, reward=tmp_path)


@pytest.mark.slow
def test_scores_of_best_of_n_are_those_of_the_model_on_each_text_alone(judge):
  judge, _ = judge
  alone = best.scores(judge, ["risk averse:"], [["I like certainty."]])
  among = best.scores(judge, ["a:", "risk averse:"], [["x", "yy"], ["zzz", "I like certainty."]])
  np.testing.assert_allclose(among[1, 1], alone[0, 0], rtol=1e-5, atol=1e-6)


def test_best_of_n_without_a_reward_model_is_refused():
  for options in ({"best_of": 4}, {"reward": "somewhere"}, {"best_of": -1}):
    with pytest.raises(Refused, match="best of n needs both --best_of"):
      generate.run("nowhere", ["x"], **options)


def test_weights_of_best_of_n_are_how_often_each_rank_is_the_best():
  counts = np.zeros(5)
  for i in range(5):
    for j in range(i):
      for k in range(j):
        counts[max(i, j, k)] += 1
  np.testing.assert_allclose(best.weights(3, 5), counts / counts.sum())
  np.testing.assert_allclose(best.weights(1, 5), 0.2)
  assert best.weights(5, 5)[-1] == 1 and best.weights(2, 4).sum() == 1
  with pytest.raises(Refused, match=r"n in 1..4"):
    best.weights(5, 4)


def test_teacher_arrays_are_measured_with_the_teachers_own_function_and_get_no_gradient():
  def measure(params, batch, want, key):
    return {n: params * batch["tokens"] for n in want}

  def taught(params, batch, want, key):
    return {n: params + batch["tokens"] for n in want}

  ready = prepare.make(measure, ["logits", "teacher_logits", "ref_logits"], taught)
  frozen = {"ref": 3.0, "teacher": 5.0}
  found = ready(2.0, frozen, {"tokens": np.ones(2)}, None)
  assert set(found) == {"tokens", "teacher_logits", "ref_logits"}
  assert found["teacher_logits"][0] == 6 and found["ref_logits"][0] == 3
  grad = jax.grad(
    lambda t: ready(2.0, frozen | {"teacher": t}, {"tokens": np.ones(2)}, None)[
      "teacher_logits"
    ].sum()
  )(5.0)
  assert grad == 0


def test_a_run_that_reads_a_teacher_and_has_none_is_refused():
  with pytest.raises(
    Refused, match="reads teacher_token_logp but has no teacher: set config.teach"
  ):
    prepare.make(lambda *_: {}, ["token_logp", "teacher_token_logp"])


@pytest.mark.slow
def test_a_student_learns_from_a_teacher_of_another_size(tmp_path):
  source, student = tmp_path / "teacher", tmp_path / "student"
  train.run(_policy("nll", steps=4, width=48, heads=3, depth=2), source)
  config = _policy("sampled_rkl", steps=4)
  with pytest.raises(Refused, match="reads teacher_token_logp but has no teacher"):
    train.run(config, student)
  config.teacher.init_from = str(source)
  final = train.run(config, student)
  assert np.isfinite(final["distill/gap"]) and final["distill/gap"] != 0
  with jax.set_mesh(assemble.mesh(config)):
    parts = assemble.parts(config, assemble.corpus(config, student))
    params = teacher.load(parts.teacher, parts.mesh)
  assert params["embed"].shape[1] == 48 and parts.model.width == 32


@pytest.mark.slow
def test_a_teacher_of_another_kind_or_tokenizer_is_refused(tmp_path, judge):
  judge, _ = judge
  config = _policy("sampled_rkl")
  config.teacher.init_from = str(judge)
  with pytest.raises(Refused, match="is a reward model, this run's is another kind"):
    train.run(config, tmp_path / "kind")
  config.tokenizer.update(kind="bpe", vocab=320)
  with pytest.raises(Refused, match="tokenizer"):
    train.run(config, tmp_path / "words")


@pytest.mark.slow
def test_a_trained_reward_model_is_evaluated_with_its_calibration(judge):
  judge, final = judge
  found = evaluate.run(judge)
  np.testing.assert_allclose(found["heldout/rewards/ece"], final["heldout/rewards/ece"], rtol=1e-6)
  assert 0 <= found["heldout/rewards/ece"] <= 1
