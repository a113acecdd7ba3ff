"""Batches of group RL for the tests of policy losses."""

import jax.numpy as jnp
import numpy as np

B, K, T = 4, 3, 6


def arrays(seed=0, spread=0.3, per_token=False):
  """Every array that policy losses read; one response is empty and one has a single token."""
  rng = np.random.default_rng(seed)
  shape = (B, K, T)
  mask = (np.arange(T) < rng.integers(2, T + 1, (B, K, 1))).astype(np.float32)
  mask[1, 2], mask[2, 0, 1:] = 0, 0
  old = -rng.gamma(2.0, 0.7, shape) - 0.01
  near = lambda scale: np.minimum(old + rng.normal(0.0, scale, shape), -0.005)
  advantage = rng.normal(size=shape if per_token else (B, K, 1)) * np.ones(shape)
  found = {
    "token_logp": near(spread),
    "old_token_logp": old,
    "sampler_token_logp": near(0.9),
    "ref_token_logp": near(0.5),
    "advantage": advantage,
    "reward": rng.normal(size=(B, K)),
    "mask": mask,
    "segment": np.broadcast_to(np.arange(T) // 2, shape),
    "entropy": rng.gamma(2.0, 0.5, shape),
    "value": rng.normal(size=shape),
    "old_value": rng.normal(size=shape),
    "returns": rng.normal(size=shape),
  }
  kinds = {"segment": jnp.int32}
  return {k: jnp.asarray(v, kinds.get(k, jnp.float32)) for k, v in found.items()}
