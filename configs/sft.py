"""Supervised fine-tuning: the likelihood of the preferred (or only) response.

  jaxpref train --config=configs/sft.py --workdir=runs/sft

`heldout/nll` is in nats per token. Argument: `scale` (tiny: two CPU cores, about a minute; small:
one GPU), `path` (your own JSONL or parquet files instead of the bundled personas, with `{split}`
where their names say train and test).
"""

from jaxpref import config as cfg
from jaxpref import objectives, recipe


def get_config(arg=""):
  arg = cfg.parse_arg(arg, scale="tiny", path="")
  tiny = {"tiny": True, "small": False}[arg.scale]
  c = recipe.base()
  c.title = f"Supervised fine-tuning on {arg.path or 'the bundled personas'}"
  c.steps = 200 if tiny else 1000
  c.batch = 48 if tiny else 128
  c.model = recipe.model("nano", depth=2) if tiny else recipe.model("small")
  c.tokenizer.vocab = 2048 if tiny else 8192
  c.objectives = dict(main=cfg.term(objectives, "nll"))
  c.optim.lr = 3e-3 if tiny else 3e-4
  c.data.max_length, c.data.buckets, c.data.group = 96, (24, 40, 96), 20
  if arg.path:
    c.data.max_length, c.data.buckets = 512, (64, 128, 256, 512)
  records = dict(name="files", path=arg.path) if arg.path else dict(name="personas")
  c.data.sets = dict(main=recipe.data_set(**records, split="train", shape="best"))
  held_out = recipe.data_set(**records, split="test", shape="best")
  c.evals = dict(heldout=recipe.evaluation("response_nll", data=held_out, every=c.steps // 2))
  c.checkpoint.metric, c.checkpoint.mode = "heldout/nll", "min"
  c.samples.count = 1
  return c
