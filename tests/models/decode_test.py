import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformer_by_hand as by_hand

from jaxpref.models import language
from jaxpref.types import Refused

_prefill = jax.jit(language.prefill, static_argnums=(1, 5))
_step = jax.jit(language.step, static_argnums=1)


def _prompts(lengths, width, side):
  pairs = [(p, []) for p, _ in by_hand.rows(lengths=[(n, 0) for n in lengths])]
  batch = by_hand.batch(pairs, k=1, total=width, side=side, junk=3)
  return [p for p, _ in pairs], {k: v[:, 0] for k, v in batch.items()}


@pytest.mark.parametrize("name", by_hand.variants())
@pytest.mark.parametrize("side", ["left", "right"])
def test_decoding_with_the_cache_equals_a_full_pass_in_float64_numpy(name, side):
  config = by_hand.variants()[name]
  params = by_hand.busy(language.init(jax.random.key(1), config))
  prompts, batch = _prompts((2, 5, 1), 5, side)
  more = np.random.default_rng(3).integers(0, config.vocab, (3, 4)).astype(np.int32)
  logits, cache = _prefill(
    params, config, batch["tokens"], batch["prompt_mask"] > 0, batch["position"], 9
  )
  for i in range(5):
    found = jax.nn.log_softmax(logits, -1)
    for row, prompt in enumerate(prompts):
      wanted = by_hand.log_softmax(params, config, prompt + list(more[row, :i]))[-1]
      np.testing.assert_allclose(found[row, : config.vocab], wanted, rtol=2e-5, atol=2e-5)
      np.testing.assert_array_equal(jnp.exp(found[row, config.vocab :]), 0.0)
    if i < 4:
      logits, cache = _step(params, config, cache, more[:, i])


def test_a_cache_without_room_for_the_prompt_is_refused():
  config = by_hand.config()
  params = language.init(jax.random.key(0), config)
  _, batch = _prompts((2, 5), 5, "left")
  with pytest.raises(Refused, match="4 slots cannot hold prompts of 5"):
    language.prefill(
      params, config, batch["tokens"], batch["prompt_mask"] > 0, batch["position"], 4
    )
