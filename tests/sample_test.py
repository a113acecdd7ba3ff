import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxpref import sharding
from jaxpref.models import language
from jaxpref.models.transformer import Config
from jaxpref.sample import choose, sample
from jaxpref.types import Refused

CONFIG = Config(
  vocab=50, width=16, depth=2, heads=4, kv_heads=2, head_width=8, hidden=24, qkv_bias=True
)
LENGTHS = (3, 1, 5, 4, 2, 5, 1, 3)


@pytest.fixture(scope="module")
def params():
  tree = language.init(jax.random.key(0), CONFIG)
  return tree | {"embed": 25.0 * tree["embed"]}  # peaked predictions


def _prompts(side, width=5, lengths=LENGTHS):
  rng = np.random.default_rng(0)
  tokens = np.full((len(lengths), width), 7, np.int32)
  mask = np.zeros((len(lengths), width), np.float32)
  for i, n in enumerate(lengths):
    at = slice(0, n) if side == "right" else slice(width - n, width)
    tokens[i, at], mask[i, at] = rng.integers(0, 50, n), 1
  return tokens, mask


def _scored(params, tokens, mask, found):
  """`token_logp` of the sampled tokens by `language.measure`, prompt and sample side by side."""
  got = np.asarray(found["mask"])
  real = np.concatenate([mask, got], 1) > 0
  batch = {
    "tokens": np.concatenate([tokens, found["tokens"]], 1),
    "mask": np.concatenate([0 * mask, got], 1),
    "prompt_mask": np.concatenate([mask, 0 * got], 1),
    "position": np.where(real, real.cumsum(1) - 1, 0),
  }
  batch = {k: jnp.asarray(v)[:, None] for k, v in batch.items()}
  logp = language.measure(params, batch, CONFIG, {"token_logp"})["token_logp"]
  return logp[:, 0, tokens.shape[1] :]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("knobs", [{}, {"temperature": 0.5, "top_k": 5, "top_p": 0.8}], ids=str)
def test_token_logp_is_what_measure_gives_for_prompt_and_sample(params, side, knobs):
  tokens, mask = _prompts(side)
  found = sample(
    params, CONFIG, tokens, mask, jax.random.key(1), max_new=6, stop=(4, 9), pad=2, **knobs
  )
  np.testing.assert_allclose(
    found["token_logp"], _scored(params, tokens, mask, found), atol=1e-5, rtol=0
  )
  assert (found["token_logp"] < 0).any()


def test_the_sampler_at_temperature_one_is_the_model(params):
  found = sample(params, CONFIG, *_prompts("left"), jax.random.key(1), max_new=6)
  np.testing.assert_allclose(found["sampler_logp"], found["token_logp"], atol=1e-6)


def test_left_and_right_padded_prompts_give_the_same_samples(params):
  a, b = (
    sample(params, CONFIG, *_prompts(side), jax.random.key(2), max_new=6)
    for side in ("left", "right")
  )
  np.testing.assert_array_equal(a["tokens"], b["tokens"])
  np.testing.assert_allclose(a["token_logp"], b["token_logp"], atol=1e-5)


def test_the_mask_ends_with_the_stop_token_and_padding_follows(params):
  stop = (3, 8, 20, 21, 22, 23, 40)
  found = sample(params, CONFIG, *_prompts("left"), jax.random.key(3), max_new=30, stop=stop, pad=1)
  tokens, mask = np.asarray(found["tokens"]), np.asarray(found["mask"])
  assert found["finished"].any()
  for row in range(len(tokens)):
    hits = np.flatnonzero(np.isin(tokens[row], stop))
    assert bool(found["finished"][row]) == bool(len(hits))
    end = hits[0] + 1 if len(hits) else 30
    np.testing.assert_array_equal(mask[row], np.arange(30) < end)
    np.testing.assert_array_equal(tokens[row, end:], 1)
    for name in ("token_logp", "sampler_logp"):
      np.testing.assert_array_equal(np.asarray(found[name])[row, end:], 0.0)


def test_a_row_does_not_depend_on_the_size_of_the_batch(params):
  tokens, mask = _prompts("left")
  whole, part = (
    sample(params, CONFIG, tokens[:n], mask[:n], jax.random.key(4), max_new=6) for n in (8, 3)
  )
  np.testing.assert_array_equal(whole["tokens"][:3], part["tokens"])


def test_equal_prompts_in_one_batch_get_different_samples_and_equal_keys_equal_ones(params):
  tokens, mask = (np.repeat(x[:1], 8, 0) for x in _prompts("left"))
  a, b, c = (
    np.asarray(sample(params, CONFIG, tokens, mask, jax.random.key(s), max_new=8)["tokens"])
    for s in (5, 5, 6)
  )
  assert len({tuple(row) for row in a}) == 8
  np.testing.assert_array_equal(a, b)
  assert (a != c).any()


@pytest.mark.parametrize("side", ["left", "right"])
def test_greedy_decoding_equals_repeated_full_forward_passes(params, side):
  tokens, mask = _prompts(side)
  found = sample(params, CONFIG, tokens, mask, jax.random.key(0), max_new=5, temperature=0.0)
  lengths = np.asarray(LENGTHS)
  ids = np.zeros((len(lengths), 10), np.int32)
  for row, n in enumerate(lengths):
    ids[row, :n] = tokens[row][mask[row] > 0]
  place = np.broadcast_to(np.arange(10), ids.shape)
  rows = np.arange(len(lengths))

  @jax.jit
  def likeliest(ids, length):
    hidden = language.hidden_states(params, CONFIG, ids, place < length[:, None], place)
    return language.logits(params, CONFIG, hidden[rows, length - 1]).argmax(-1)

  for i in range(5):
    ids[rows, lengths + i] = likeliest(ids, lengths + i)
    np.testing.assert_array_equal(found["tokens"][:, i], ids[rows, lengths + i])
  np.testing.assert_array_equal(found["sampler_logp"], 0.0)


def test_the_loop_ends_when_every_row_has_stopped(params, monkeypatch):
  calls = []
  real = language.step

  def counted(*args):
    jax.debug.callback(lambda: calls.append(1))
    return real(*args)

  monkeypatch.setattr(language, "step", counted)
  jax.clear_caches()
  everything = tuple(range(50))
  found = sample(params, CONFIG, *_prompts("left"), jax.random.key(0), max_new=17, stop=everything)
  jax.effects_barrier()
  assert not calls and found["finished"].all() and (found["mask"].sum(1) == 1).all()
  sample(params, CONFIG, *_prompts("left"), jax.random.key(0), max_new=17)
  jax.effects_barrier()
  assert len(calls) == 16


def _support_by_hand(logits, temperature, top_k, top_p):
  """Probabilities of the tokens that survive, in float64 numpy, by the docstring."""
  p = scipy.special.softmax(logits.astype(np.float64) / temperature)
  order = np.argsort(-p)[: top_k or len(p)]
  kept, total, whole = [], 0.0, p[order].sum()
  for token in order:
    kept.append(token)
    total += p[token] / whole
    if total >= top_p:
      break
  out = np.zeros(len(p))
  out[kept] = p[kept] / p[kept].sum()
  return out


@pytest.mark.parametrize(
  "temperature,top_k,top_p",
  [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.0, 3, 1.0), (1.5, 0, 0.6), (0.8, 5, 0.75), (1.0, 0, 1e-9)],
)
def test_draws_have_the_distribution_of_the_definition(temperature, top_k, top_p):
  logits = np.random.default_rng(1).normal(0.0, 1.5, 12).astype(np.float32)
  draws = 20_000
  token, logp = choose(
    jnp.broadcast_to(logits, (draws, 12)),
    jax.random.split(jax.random.key(0), draws),
    temperature,
    top_p,
    greedy=False,
    top_k=top_k,
    nucleus=top_p < 1,
  )
  p = _support_by_hand(logits, temperature, top_k, top_p)
  token = np.asarray(token)
  np.testing.assert_allclose(logp, np.log(p[token]), atol=1e-5)
  assert set(token) == set(np.flatnonzero(p))
  seen = np.bincount(token, minlength=12) / draws
  error = np.sqrt(p * (1 - p) / draws)
  assert (np.abs(seen - p) <= 4.5 * error).all()  # 4.5 standard errors
  if (p > 0).sum() > 1:
    counts = np.bincount(token, minlength=12)[p > 0]
    assert scipy.stats.chisquare(counts, draws * p[p > 0]).pvalue > 1e-4


def test_ids_beyond_the_vocabulary_are_never_sampled(params):
  found = sample(params, CONFIG, *_prompts("left"), jax.random.key(7), max_new=20, temperature=1e3)
  assert (np.asarray(found["tokens"]) < CONFIG.vocab).all()
  assert len(np.unique(found["tokens"])) > 40  # nearly uniform over 50


def test_samples_on_a_mesh_equal_those_of_one_device(params):
  tokens, mask = _prompts("left")
  knobs = dict(max_new=6, stop=(4,), top_k=9)
  one = sample(params, CONFIG, tokens, mask, jax.random.key(8), **knobs)
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  places = sharding.params_shardings(params, language.rules(CONFIG), mesh)
  with jax.set_mesh(mesh):
    batch = sharding.put({"tokens": tokens, "mask": mask}, mesh)
    many = sample(
      jax.device_put(params, places), CONFIG, *batch.values(), jax.random.key(8), **knobs
    )
  np.testing.assert_array_equal(one["tokens"], many["tokens"])
  np.testing.assert_allclose(one["token_logp"], many["token_logp"], atol=1e-5)


@pytest.mark.parametrize(
  "knobs,sentence",
  [
    ({"max_new": 0}, "max_new of at least 1; got 0"),
    ({"temperature": -1.0}, "temperature must be 0 .greedy. or above; got -1.0"),
    ({"top_k": 51}, "top_k must lie in 0..50"),
    ({"top_p": 0.0}, "top_p must lie above 0"),
    ({"stop": (50,)}, "stop token 50 is not in the vocabulary of 50"),
    ({"pad": -1}, "pad token -1 is not in the vocabulary"),
  ],
)
def test_values_out_of_range_are_refused(params, knobs, sentence):
  with pytest.raises(Refused, match=sentence):
    sample(params, CONFIG, *_prompts("left"), jax.random.key(0), **{"max_new": 3} | knobs)


def test_empty_prompts_are_refused_with_their_number(params):
  tokens, mask = _prompts("left")
  mask[[1, 4]] = 0
  with pytest.raises(Refused, match="2 of 8 prompts are empty"):
    sample(params, CONFIG, tokens, mask, jax.random.key(0), max_new=3)
  with pytest.raises(Refused, match=r"one shape \[N, P\]"):
    sample(params, CONFIG, tokens, mask[:, 1:], jax.random.key(0), max_new=3)
