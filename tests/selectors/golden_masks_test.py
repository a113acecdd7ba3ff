"""Masks of TRL: off-policy sequences and tokens of high entropy."""

import golden_files
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import selectors

FILE, ME = "trl_grpo_loss", "golden_masks_test"
ENTROPY = [c for c in golden_files.covered(FILE, ME) if c.startswith("high_entropy")]


def _arrays():
  z = golden_files.load(FILE)
  return {k: jnp.asarray(z[k])[:, None] for k in ("logp", "old_logp", "sampling_logp", "mask")} | {
    "adv": jnp.asarray(z["adv"])[:, None, None],
    "entropy": jnp.asarray(z["entropy"])[:, None],
  }


@pytest.mark.parametrize("case", ENTROPY)
def test_tokens_of_high_entropy(case):
  z = _arrays()
  share = golden_files.parameters(FILE)[case]["knobs"]["share"]
  keep = selectors.top_entropy(z["entropy"], z["mask"], share=share) * z["mask"]
  np.testing.assert_array_equal(keep[:, 0], golden_files.outputs(FILE, case)["value"])


def test_off_policy_sequences():
  z = _arrays()
  knobs = golden_files.parameters(FILE)["offpolicy_mask"]["knobs"]
  keep = selectors.opsm(
    jnp.broadcast_to(z["adv"], z["mask"].shape), z["sampling_logp"], z["logp"], z["mask"], **knobs
  )
  wanted = golden_files.outputs(FILE, "offpolicy_mask")["value"]
  kept = jnp.where(z["mask"] > 0, keep, 1)[:, 0].min(-1, keepdims=True)
  np.testing.assert_array_equal(kept, wanted)
