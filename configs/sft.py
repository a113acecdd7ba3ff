"""Supervised fine-tuning: the likelihood of the preferred (or only) response.

  jaxpref train --config=configs/sft.py --workdir=runs/sft

`heldout/nll` is in nats per token. Argument: `scale` (tiny: two CPU cores, about a minute; small:
one GPU), `path` (a JSONL or parquet file of your own instead of the bundled personas), `test` (a
held-out file; the same file if not given).
"""

from jaxpref import config as cfg
from jaxpref import objectives, recipe


def get_config(arg=""):
  arg = cfg.parse_arg(arg, scale="tiny", path="", test="")
  tiny = {"tiny": True, "small": False}[arg.scale]
  c = recipe.base()
  c.title = f"Supervised fine-tuning on {arg.path or 'the bundled personas'}"
  c.steps = 200 if tiny else 1000
  c.batch = 48 if tiny else 128
  c.model = recipe.model("nano", depth=2) if tiny else recipe.model("small")
  c.tokenizer.vocab = 2048 if tiny else 8192
  c.objectives = dict(main=cfg.term(objectives, "nll"))
  c.optim.lr = 3e-3 if tiny else 3e-4
  train, test = dict(name="personas"), dict(name="personas")
  c.data.max_length, c.data.buckets = 96, (24, 40, 96)
  if arg.path:
    train = dict(name="files", path=arg.path)
    test = dict(name="files", path=arg.test or arg.path)
    c.data.max_length, c.data.buckets = 512, (64, 128, 256, 512)
  c.data.group = 20
  c.data.sets = dict(main=recipe.data_set(**train, split="train", shape="preferred"))
  held_out = recipe.data_set(**test, split="train" if arg.path else "test", shape="preferred")
  c.evals = dict(heldout=recipe.evaluation("response_nll", data=held_out, every=c.steps // 2))
  c.checkpoint.metric, c.checkpoint.mode = "heldout/nll", "min"
  c.samples.count = 1
  return c
