"""BPR matrix factorisation on simulated long-tailed clicks, popularity weighed away."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.item_fairness.lists import measured
from jaxpref.metrics import item_fairness


def clicks(seed, *, users, items, factors, each, tail):
  """Training and test clicks bool[U, I]: taste plus log-popularity, `each` of both per user.

  Popularity falls as rank to the power `-tail`.
  """
  rng = np.random.default_rng(seed)
  taste = rng.normal(size=(users, factors)) @ rng.normal(size=(factors, items)) / factors**0.5
  popular = -tail * np.log(np.arange(1, items + 1))[rng.permutation(items)]
  order = (taste + popular + rng.gumbel(size=(users, items))).argsort(1)[:, ::-1]
  train, test = np.zeros((2, users, items), bool)
  picked = np.argsort(rng.random((users, 2 * each)), 1)
  first = np.take_along_axis(order, picked, 1)
  np.put_along_axis(train, first[:, :each], True, 1)
  np.put_along_axis(test, first[:, each:], True, 1)
  return train, test


@functools.partial(jax.jit, static_argnames=("users", "factors", "steps", "batch"))
def train_scores(key, who, what, weight, *, users, factors, steps, batch, lr, decay):
  """Scores f32[U, I] after BPR on sampled triples; a click on item i counts `weight[i]` times.

  Click c is that of user `who[c]` on item `what[c]`.
  """
  items = len(weight)
  init, key = jax.random.split(key)
  sizes = {"user": (users, factors), "item": (items, factors), "bias": (items,)}
  keys = jax.random.split(init, len(sizes))
  params = {n: 0.1 * jax.random.normal(k, s) for k, (n, s) in zip(keys, sizes.items(), strict=True)}
  optimizer = optax.adam(lr)

  def score(p, u, i):
    return (p["user"][u] * p["item"][i]).sum(-1) + p["bias"][i]

  def loss(p, u, i, j):
    each = jax.nn.softplus(score(p, u, j) - score(p, u, i))
    return (weight[i] * each).mean() + decay * sum((x**2).mean() for x in p.values())

  def step(state, key):
    p, memory = state
    first, second = jax.random.split(key)
    click = jax.random.randint(first, (batch,), 0, len(who))
    u, i = who[click], what[click]
    j = jax.random.randint(second, (batch,), 0, items)
    grads = jax.grad(loss)(p, u, i, j)
    change, memory = optimizer.update(grads, memory)
    return (optax.apply_updates(p, change), memory), None

  keys = jax.random.split(key, steps)
  (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
  return params["user"] @ params["item"].T + params["bias"]


def run(config) -> dict[str, float]:
  """Fairness and accuracy of the lists of one recommender."""
  train, test = clicks(config.seed, **config.data)
  popularity = np.maximum(train.sum(0), 1.0)
  weight = popularity**-config.debias
  weight = weight * train.sum() / (weight * train.sum(0)).sum()  # mean 1 over clicks
  scores = train_scores(
    jax.random.key(config.seed),
    *(jnp.asarray(x) for x in np.nonzero(train)),
    jnp.asarray(weight, jnp.float32),
    users=len(train),
    steps=config.steps,
    **config.model,
  )
  lists = np.asarray(jnp.where(train, -jnp.inf, scores)).argsort(1)[:, ::-1][:, : config.top]
  hit = np.take_along_axis(test, lists, 1).astype(np.float32)
  curves = item_fairness.accuracy_curves(hit, test.sum(1).astype(np.float32))
  out = {f"{k}@{config.top}": float(v[:, -1].mean()) for k, v in curves.items()}
  return out | measured(lists, train.shape[1])
