"""Every pair objective with a reference against its definition, worked value and knob ranges."""

import definitions_pairs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import call, objectives
from jaxpref.types import Refused

WORKED = {  # a = 1, b = -0.5, h = 1.5 nats
  "logp": jnp.asarray([[-10.0, -12.0]]),
  "ref_logp": jnp.asarray([[-11.0, -11.5]]),
  "length": jnp.asarray([[20.0, 24.0]]),
  "weight": jnp.ones(1),
}
SETTINGS = [
  ("rdpo_robust", {}),
  ("rdpo_robust", {"beta": 0.5, "label_smoothing": 0.3}),
  ("hinge", {}),
  ("hinge", {"beta": 0.5}),
  ("dpo_norm", {}),
  ("dpo_norm", {"beta": 0.1}),
  ("exo_pair", {}),
  ("exo_pair", {"beta": 0.5, "label_smoothing": 0.2}),
  ("nca_pair", {}),
  ("nca_pair", {"beta": 0.3}),
  ("nca_biased", {}),
  ("bco_pair", {}),
  ("sppo_hard", {}),
  ("sppo_hard", {"beta": 0.1}),
  ("sppo", {}),
  ("sppo", {"beta": 0.1}),
  ("aot", {}),
  ("aot", {"beta": 0.5, "label_smoothing": 0.2}),
  ("aot_unpaired", {}),
  ("aot_unpaired", {"beta": 0.5, "label_smoothing": 0.2}),
  ("apo_zero", {}),
  ("apo_zero", {"beta": 0.5}),
  ("apo_down", {}),
  ("apo_down", {"beta": 0.5}),
  ("discopop", {}),
  ("discopop", {"beta": 0.05, "tau": 0.5}),
  ("kto_pair", {}),
  ("dpop", {}),
  ("dpop", {"beta": 0.1, "penalty": 5.0}),
  ("rdpo_length", {}),
  ("rdpo_length", {"beta": 0.05, "alpha": 0.05}),
  ("wpo_length", {}),
  ("wpo_length", {"beta": 0.1, "label_smoothing": 0.2}),
  ("cal_dpo", {}),
  ("cal_dpo", {"beta": 0.1}),
  ("odpo", {}),
  ("odpo", {"alpha": 0.5, "scale": "identity"}),
  ("margin_dpo", {}),
  ("spin", {}),
  ("spin", {"link": "hinge"}),
  ("rebel", {}),
  ("rebel", {"eta": 3.0}),
  ("inpo", {}),
  ("inpo", {"eta": 0.1, "tau": 0.08}),
]


def _arrays(seed, rows=6):
  rng = np.random.default_rng(seed)
  logp, ref_logp, old_logp = rng.normal(-20.0, 4.0, (3, rows, 2)).astype(np.float32)
  return {
    "logp": logp,
    "ref_logp": ref_logp,
    "old_logp": old_logp,
    "length": rng.integers(1, 30, (rows, 2)).astype(np.float32),
    "reward": rng.random((rows, 2)).astype(np.float32),
    "strength": rng.gamma(2.0, 0.5, rows).astype(np.float32),
    "weight": np.asarray([1, 2, 0, 1, 0.5, 0], np.float32)[:rows],
  }


@pytest.mark.parametrize(("name", "knobs"), SETTINGS)
def test_equals_the_definition_in_value_and_gradient(name, knobs):
  arrays, fn = _arrays(0), call.bind(getattr(objectives, name), **knobs)
  defined = getattr(definitions_pairs, name)
  wanted = defined(*(arrays[k] for k in call.needs(fn)), **knobs)
  loss, _ = call.feed(fn, arrays)
  np.testing.assert_allclose(loss, wanted, rtol=2e-5, atol=2e-6)
  total = lambda x: defined(*((arrays | {"logp": x})[k] for k in call.needs(fn)), **knobs).sum()
  if name == "wpo_length":  # the weight gets no gradient
    weight = np.minimum(1, np.exp((np.float64(arrays["logp"]) / arrays["length"]).sum(1)))
    args = {k: v for k, v in knobs.items()} or {"beta": 0.01, "label_smoothing": 0.0}
    plain = definitions_pairs.definitions.cdpo
    total = lambda x: (weight * plain(x, arrays["ref_logp"], **args)).sum()
  grad = jax.grad(lambda x: call.feed(fn, arrays | {"logp": x})[0].sum())(arrays["logp"])
  slope = definitions_pairs.definitions.slope(total, arrays["logp"])
  np.testing.assert_allclose(grad, slope, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
  ("name", "knobs", "worked"),
  [
    ("rdpo_robust", {"label_smoothing": 0.1}, "0.602207"),
    ("hinge", {}, "0.850000"),
    ("dpo_norm", {}, "0.689612"),
    ("exo_pair", {"label_smoothing": 1e-3}, "2.505517"),
    ("nca_pair", {}, "1.350825"),
    ("bco_pair", {}, "1.312856"),
    ("nca_biased", {}, "1.312856"),
    ("sppo_hard", {}, "36.250000"),
    ("apo_zero", {}, "0.962523"),
    ("apo_down", {}, "0.987549"),
    ("discopop", {}, "0.849338"),
    ("dpop", {"penalty": 50.0}, "0.620957"),
    ("rdpo_length", {"alpha": 0.02}, "0.658760"),
    ("cal_dpo", {}, "18.326413"),
    ("spin", {}, "0.620957"),
    ("aot", {}, "0.620957"),
    ("aot_unpaired", {}, "0.620957"),
  ],
)
def test_worked_values_of_the_catalogue(name, knobs, worked):
  loss, _ = call.feed(call.bind(getattr(objectives, name), beta=0.1, **knobs), WORKED)
  np.testing.assert_allclose(loss[0], float(worked), rtol=1e-6, atol=6e-7)


def test_worked_values_with_other_inputs():
  pair = WORKED["logp"], WORKED["ref_logp"]
  loss, _ = objectives.dpop(jnp.asarray([[-11.5, -10.5]]), pair[1], beta=0.1)
  assert f"{loss[0]:.6f}" == "2.718267"  # a = -0.5, b = 1
  loss, _ = objectives.odpo(*pair, jnp.asarray([[0.5, 0.2]]), scale="identity")
  assert f"{loss[0]:.6f}" == "0.770957"
  loss, _ = objectives.odpo(*pair, jnp.asarray([[np.exp(0.3), 0.0]]))
  assert f"{loss[0]:.6f}" == "0.770957"
  assert f"{objectives.margin_dpo(*pair, jnp.asarray([0.3]))[0][0]:.6f}" == "0.770957"
  loss, _ = objectives.rebel(*pair, jnp.asarray([[1.0, 0.2]]))
  assert f"{loss[0]:.6f}" == "0.490000"
  loss, _ = objectives.inpo(*pair, jnp.asarray([[-10.5, -12.0]]), eta=0.1, tau=0.05)
  assert f"{loss[0]:.6f}" == "16.000000"  # (2 - 0.5 * 0.5 - 0.5 * 1.5 - 5)^2


@pytest.mark.parametrize(
  ("name", "knobs", "sentence"),
  [
    ("rdpo_robust", {"label_smoothing": 0.5}, "at least 0 and below 0.5; it is 0.5"),
    ("rdpo_robust", {"label_smoothing": -0.1}, "at least 0 and below 0.5; it is -0.1"),
    ("exo_pair", {"label_smoothing": 0.0}, "above 0 and at most 0.5; it is 0.0"),
    ("exo_pair", {"label_smoothing": 0.6}, "above 0 and at most 0.5; it is 0.6"),
    ("aot", {"label_smoothing": 0.7}, "aot needs label_smoothing from 0 to 0.5; it is 0.7"),
    ("aot_unpaired", {"label_smoothing": -1.0}, "aot_unpaired needs label_smoothing"),
    ("wpo_length", {"label_smoothing": 0.7}, "label_smoothing from 0 to 0.5; it is 0.7"),
    ("discopop", {"tau": 0.0}, "tau above 0 and at most 1; it is 0.0"),
    ("discopop", {"tau": 1.5}, "tau above 0 and at most 1; it is 1.5"),
    ("dpop", {"penalty": -1.0}, "penalty of at least 0; it is -1.0"),
    ("odpo", {"alpha": -1.0}, "alpha of at least 0; it is -1.0"),
    ("odpo", {"scale": "lok"}, "no scale 'lok'. Did you mean 'log'"),
    ("spin", {"link": "hing"}, "no link 'hing'. Did you mean 'hinge'"),
    ("rebel", {"eta": 0.0}, "rebel needs eta > 0; it is 0.0"),
    ("inpo", {"eta": 0.1, "tau": 0.2}, "tau from 0 to eta=0.1; it is 0.2"),
  ],
)
def test_knobs_out_of_range_are_refused(name, knobs, sentence):
  with pytest.raises(Refused, match=sentence):
    call.feed(call.bind(getattr(objectives, name), **knobs), _arrays(1))


NAMES = sorted({name for name, _ in SETTINGS})


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("rebel", "inpo")])
def test_beta_must_be_positive(name):
  with pytest.raises(Refused, match=f"{name} needs beta > 0; it is 0"):
    call.feed(call.bind(getattr(objectives, name), beta=0.0), _arrays(1))


@pytest.mark.parametrize("name", NAMES)
def test_three_candidates_are_refused(name):
  arrays = {k: np.repeat(v, 2, 1)[:, :3] if v.ndim == 2 else v for k, v in _arrays(2).items()}
  with pytest.raises(Refused, match=rf"{name} reads 2 candidates.*\(6, 3\)"):
    call.feed(getattr(objectives, name), arrays)


@pytest.mark.parametrize("name", NAMES)
def test_reported_rewards_are_log_ratios_times_beta(name):
  arrays, fn = _arrays(3), getattr(objectives, name)
  knobs, (_, metrics) = call.knobs(fn), call.feed(fn, arrays)
  ratio = np.float64(arrays["logp"]) - arrays["ref_logp"]
  reward = ratio * knobs["beta"] if "beta" in knobs else ratio / knobs["eta"]
  if name == "inpo":
    last = np.float64(arrays["logp"]) - arrays["old_logp"]
    reward = knobs["tau"] * ratio + (knobs["eta"] - knobs["tau"]) * last
  np.testing.assert_allclose(metrics["rewards/chosen"], reward[:, 0], rtol=1e-4, atol=1e-7)
  np.testing.assert_allclose(metrics["rewards/rejected"], reward[:, 1], rtol=1e-4, atol=1e-7)
  right = reward[:, 0] > reward[:, 1]
  np.testing.assert_array_equal(metrics["rewards/accuracies"], right)
  np.testing.assert_array_equal(metrics["logps/chosen"], arrays["logp"][:, 0])
