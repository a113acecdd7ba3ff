"""A reward model from pairs: the language model's trunk with a score per response.

  jaxpref train --config=configs/reward.py --workdir=runs/reward

`heldout/rewards/accuracies` is the share of held-out pairs whose preferred response has the higher
score. Argument: `objective` (one that reads `score`), `scale` (tiny: two CPU cores, about two
minutes; small: one GPU), `path` (your own JSONL or parquet files instead of the bundled personas,
with `{split}` where their names say train and test).
"""

from jaxpref import config as cfg
from jaxpref import objectives, recipe


def get_config(arg=""):
  arg = cfg.parse_arg(arg, objective="bradley_terry", scale="tiny", path="")
  tiny = {"tiny": True, "small": False}[arg.scale]
  c = recipe.base()
  c.title = f"Reward model, {arg.objective} on {arg.path or 'the bundled personas'}"
  c.steps = 300 if tiny else 1000
  c.batch = 48 if tiny else 128
  c.model = (
    recipe.model("nano", depth=2, kind="reward") if tiny else recipe.model("small", kind="reward")
  )
  c.tokenizer.vocab = 2048 if tiny else 8192
  c.objectives = dict(main=cfg.term(objectives, arg.objective))
  c.optim.lr = 3e-3 if tiny else 3e-4
  c.data.max_length, c.data.buckets, c.data.group = 96, (24, 40, 96), 20
  if arg.path:
    c.data.max_length, c.data.buckets = 512, (64, 128, 256, 512)
  records = dict(name="files", path=arg.path) if arg.path else dict(name="personas")
  c.data.sets = dict(main=recipe.data_set(**records, split="train"))
  held_out = recipe.data_set(**records, split="test")
  c.evals = dict(heldout=recipe.evaluation("score_accuracy", data=held_out, every=c.steps // 3))
  c.checkpoint.metric = "heldout/rewards/accuracies"
  return c
