"""Part B: a small language model on persona pairs: supervised on the preferred, then DPO.

The supervised stage does not depend on gamma, so all rows of a seed start from the same one.
"""

import json
import pathlib

import jax.numpy as jnp

from configs import offline
from jaxpref import assemble, heldout, metrics, recipe, train
from jaxpref import config as cfg
from jaxpref.metrics.correlation import spearman
from jaxpref.objectives import dpo

PERSONAS = "interest-in-art,interest-in-science,extraversion,neuroticism,risk-seeking,risk-averse"


def pair_report(logp, ref_logp, length, *, beta: float = 0.1, gamma: float = 1.0):
  """The paper's quantities for each pair.

  Args:
    logp: f32[B, 2], preferred response first, nats.
    ref_logp: f32[B, 2], the same under the reference.
    length: f32[B, 2], tokens that count.
    beta: of the objective.
    gamma: of the objective.

  Returns:
    dict of f32[B]. `flipped` and `unlearned` are (value, count): means over the pairs that the
    reference ranks wrongly, and rightly. `ideal_accuracy` takes the labels as unanimous votes.
  """
  loss, _ = dpo(logp, ref_logp, beta=beta, gamma=gamma)
  flips = metrics.flip_groups(logp, ref_logp)
  hard = metrics.difficulty(ref_logp, beta=beta, gamma=gamma)
  ranked = metrics.ranking_accuracy(logp, length)
  below = (loss <= hard["difficulty/threshold"]).astype(jnp.float32)
  wrong = flips["flips/wrong_right"] + flips["flips/wrong_wrong"]
  right = flips["flips/right_right"] + flips["flips/right_wrong"]
  unanimous = metrics.ideal_accuracy(ref_logp, jnp.ones_like(loss), beta=beta)
  return {
    "loss": loss,
    "gap": hard["difficulty/gap"],
    "reward_accuracy": metrics.reward_accuracy(logp, ref_logp)["reward_accuracy"],
    "theorem_41_broken": (below != ranked["ranking_accuracy"]).astype(jnp.float32),
    "ideal_accuracy": unanimous["ideal_accuracy"],
    "flipped": (flips["flips/wrong_right"], wrong),
    "unlearned": (flips["flips/right_wrong"], right),
  } | ranked


def config(gamma, scale):
  """DPO with `gamma` after a supervised stage, on the pairs of six personas."""
  c = offline.get_config(f"objective=dpo,scale={scale}")
  c.title = f"pref_ranking, gamma={gamma:g}"
  c.model = dict(kind="language", preset="nano", depth=2, width=64, heads=2, kv_heads=2, hidden=128)
  c.tokenizer.vocab, c.data.max_length, c.data.buckets = 1024, 96, (48, 96)
  c.steps, c.warm.steps, c.optim.lr = 150, 225, 1e-3  # two and three times through the pairs
  c.samples.count, c.checkpoint.mode = 0, "min"
  c.checkpoint.metric, c.checkpoint.every = "heldout/loss", 30
  c.objectives.main.gamma = gamma
  c.data.sets.main.personas = PERSONAS
  section = lambda split: recipe.data_set("personas", split=split, personas=PERSONAS)
  name, knobs = "experiments.pref_ranking.language:pair_report", {"beta": 0.1, "gamma": gamma}
  c.evals = dict(
    heldout=recipe.evaluation(name, data=section("test"), every=30, **knobs),
    train=recipe.evaluation(name, data=section("train"), **knobs),
  )
  c.warm.evals = {}
  return c


def run(config, workdir) -> dict[str, float]:
  """Metrics of the checkpoint with the lowest held-out loss, and of the reference.

  Args:
    config: of `config`, with a seed.
    workdir: folder of the run; the supervised stage lies beside it.
  """
  workdir = pathlib.Path(workdir)
  first = recipe.warm(config)
  first.title, first.checkpoint.metric = "pref_ranking, supervised stage", ""
  start = workdir.parent / f"supervised-{cfg.digest(first)}"
  train.run(first, start)
  main = config.copy_and_resolve_references()
  with main.unlocked():
    main.warm = {}
    main.init_from = str(start)
  train.run(main, workdir)
  best = assemble.restore(main, workdir, "best")
  out = {"best_step": float(best.step)}
  for split, evaluation in sorted(best.parts.evals.items()):
    means, each = heldout.run(evaluation, best.params, best.frozen, best.key, best.parts)
    out |= {f"{split}/{k}": v for k, v in means.items() if k != "gap"}
    wrong = each["gap"] > 0
    out[f"{split}/flip_correlation"] = spearman(each["flipped"][wrong], -each["gap"][wrong])
  return out | _along(workdir)


def _along(workdir):
  """Accuracies wherever they were evaluated; at step 0 policy and reference are one."""
  kept = ("ranking_accuracy", "ranking_accuracy_normalised", "reward_accuracy", "flipped")
  out = {}
  for line in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
    entry = json.loads(line)
    for name, value in entry.items():
      split, _, metric = name.partition("/")
      if split in ("heldout", "train") and metric in kept:
        out[f"{split}/step {entry['step']}/{metric}"] = value
  return out
