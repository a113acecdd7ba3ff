"""A reward model from pairs: the language model's trunk with a score per response.

  jaxpref train --config=configs/reward.py --workdir=runs/reward
  jaxpref train --config=configs/reward.py:objective=bradley_terry_margin --workdir=runs/margin

`heldout/rewards/accuracies` is the share of held-out pairs whose preferred response has the higher
score, `heldout/rewards/ece` the calibration error of its probabilities; `hh_harmless/...` are the
same on people's choices between answers, which the model has not seen the like of. Argument:
`objective` (one that reads what a reward model measures), `scale` (tiny: two CPU cores, about two
minutes; small: one GPU), `path` (your own JSONL or parquet files instead of the bundled personas,
with `{split}` where their names say train and test).

Objectives that read `strength`, `label` or `aspects` take the bundled personas with a language
model's grades. For `regression` on your own data, with `aspects` of several attributes, set
`--config.model.parts` to their number.
"""

from jaxpref import call, objectives, recipe
from jaxpref import config as cfg

GRADES = {"strength", "label", "aspects"}  # what only graded_personas has


def get_config(arg=""):
  arg = cfg.parse_arg(arg, objective="bradley_terry", scale="tiny", path="")
  tiny = {"tiny": True, "small": False}[arg.scale]
  needs = set(call.needs(call.find(objectives, arg.objective)))
  c = recipe.base()
  c.title = f"Reward model, {arg.objective} on {arg.path or 'the bundled personas'}"
  c.steps = 300 if tiny else 1000
  c.batch = 48 if tiny else 128
  heads = {"parts": 1} if "score_parts" in needs else {}
  heads |= {"embedding": 8, "unit": True} if {"embedding", "gate"} & needs else {}
  shape = {"depth": 2} if tiny else {}
  c.model = recipe.model("nano" if tiny else "small", kind="reward", **shape, **heads)
  c.tokenizer.vocab = 2048 if tiny else 8192
  c.objectives = dict(main=cfg.term(objectives, arg.objective))
  c.optim.lr = 3e-3 if tiny else 3e-4
  c.data.max_length, c.data.buckets, c.data.group = 512, (24, 40, 96, 512), 20
  if arg.path:
    c.data.max_length, c.data.buckets = 512, (64, 128, 256, 512)
  bundled = "graded_personas" if needs & GRADES else "personas"
  records = dict(name="files", path=arg.path) if arg.path else dict(name=bundled)
  c.data.sets = dict(main=recipe.data_set(**records, split="train"))
  metric = "score_accuracy"
  metric = "parts_accuracy" if "score_parts" in needs else metric
  metric = "preference_accuracy" if "embedding" in needs else metric
  held_out = recipe.data_set(**records, split="test")
  c.evals = dict(heldout=recipe.evaluation(metric, data=held_out, every=c.steps // 3))
  if not arg.path:
    c.data.truncate = "drop"  # a few of the dialogues are longer
    people = recipe.data_set("hh_harmless", split="test", limit=128 if tiny else 0)
    c.evals.hh_harmless = recipe.evaluation(metric, data=people, batch=32)
  c.checkpoint.metric = "heldout/rewards/accuracies"
  return c
