"""What to do where the engine that sampled and the trainer disagree about probabilities.

With `r = old_token_logp - sampler_token_logp` per token: `weights` multiply the loss, `rejection`
gives masks, `diagnostics` tell how far apart the two are. All of it detached.
"""

from jaxpref.rollout_correction.diagnostics import diagnostics
from jaxpref.rollout_correction.rejection import reject_sequences, reject_tokens
from jaxpref.rollout_correction.weights import (
  sequence_mis,
  sequence_tis,
  sequence_tis_filter,
  token_mis,
  token_tis,
)

__all__ = [
  "diagnostics",
  "reject_sequences",
  "reject_tokens",
  "sequence_mis",
  "sequence_tis",
  "sequence_tis_filter",
  "token_mis",
  "token_tis",
]
