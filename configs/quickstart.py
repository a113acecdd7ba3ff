"""The main job: a small model learns from real preference pairs, on a laptop, in three minutes.

  jaxpref train --config=configs/quickstart.py --workdir=runs/quickstart

Data: 36 personas (Perez et al. 2022, bundled): the prompt names a persona, the preferred response
is a statement that it would make, the other one that it would not. First a supervised warm start
on the preferred statements, then DPO against it. `heldout/rewards/accuracies` is the share of 3,600
held-out pairs that the implicit reward ranks rightly, `heldout/logps/accuracies` the share that the
likelihood itself does.
"""

from jaxpref import config as cfg
from jaxpref import objectives, recipe


def get_config():
  c = recipe.base()
  c.title = "Quickstart: DPO on statements of 36 personas"
  c.steps = 380
  c.batch = 48
  c.model = recipe.model("nano", depth=1)
  c.tokenizer.vocab = 2048
  c.objectives = dict(main=cfg.term(objectives, "dpo", beta=0.3))
  c.optim.lr = 2e-3
  c.optim.weight_decay = 0.1
  c.data.sets = dict(personas=recipe.data_set("personas", split="train"))
  c.data.max_length, c.data.buckets, c.data.group = 96, (40, 96), 20
  test = recipe.data_set("personas", split="test")
  c.evals = dict(heldout=recipe.evaluation("pair_accuracy", data=test, beta=0.3))
  c.samples.count, c.samples.prompts = 2, 36
  c.checkpoint.metric = "heldout/rewards/accuracies"
  c.warm = dict(
    steps=200,
    batch=48,
    objectives=dict(main=cfg.term(objectives, "nll")),
    evals={},  # its end is step 0 of the main stage, which is evaluated there
    samples=c.samples.to_dict() | {"count": 0},
  )
  return c
