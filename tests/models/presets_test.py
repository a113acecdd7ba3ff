import math

import jax
import pytest

from jaxpref.models import language, presets
from jaxpref.types import Refused


def _count(config):
  params = jax.eval_shape(lambda: language.init(jax.random.key(0), config))
  return sum(math.prod(x.shape) for x in jax.tree.leaves(params))


@pytest.mark.parametrize(
  "name,published",
  [
    ("qwen2.5-0.5b", 0.494),  # billions: the model cards of Qwen2.5 and Llama 3
    ("qwen2.5-1.5b", 1.544),
    ("qwen2.5-7b", 7.616),
    ("llama3-8b", 8.030),
  ],
)
def test_public_shapes_have_the_published_number_of_parameters(name, published):
  assert round(_count(presets.language(name)) / 1e9, 3) == published


def test_nano_has_under_a_million_parameters():
  assert 400_000 < _count(presets.language("nano", vocab=2048)) < 900_000


@pytest.mark.parametrize("name", presets.SHAPES)
def test_heads_fill_the_width_of_every_preset(name):
  config = presets.language(name, vocab=1000)
  assert config.vocab == 1000 and config.heads * config.head_width == config.width


def test_fields_can_be_set_otherwise():
  config = presets.language("qwen2.5-0.5b", dtype="bfloat16", remat="full", depth=2)
  assert (config.dtype, config.remat, config.depth, config.vocab) == (
    *("bfloat16", "full", 2),
    151_936,
  )


def test_wrong_names_are_refused_with_the_nearest():
  with pytest.raises(Refused, match="no language model 'nanoo'. Did you mean 'nano'"):
    presets.language("nanoo", vocab=10)
  with pytest.raises(Refused, match="no 'dept'. Did you mean 'depth'"):
    presets.language("nano", vocab=10, dept=3)
  with pytest.raises(Refused, match="nano has no vocabulary of its own"):
    presets.language("nano")
