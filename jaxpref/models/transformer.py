"""The decoder-only transformer that the language model and the reward model share.

Pure functions over a dict of arrays; those below `layers` are stacked along a first axis `L` and
scanned. Architecture: RMSNorm before each block, rotary positions in the half-split form, grouped
key/value heads, SwiGLU; optional q/k/v biases, q/k norms and tied head (Qwen 2 and 3, Llama 3).

Loading a public checkpoint means filling this dict. A scaled rotary embedding changes `rotary`
only, a soft-cap of the attention `kernels.attention` only, one of the logits `linear_logits` only.
"""

from __future__ import annotations

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp

from jaxpref import call, sharding
from jaxpref.kernels import attention
from jaxpref.types import Refused

MULTIPLE = 64  # rows of the embedding: so that it divides over any usual mesh
UNROLLED = 4  # depth up to which the scan is unrolled
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
REMAT = {
  "none": lambda body: body,
  "full": lambda body: jax.checkpoint(body, prevent_cse=False),
  "dots": lambda body: jax.checkpoint(
    body, prevent_cse=False, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable
  ),
}
# Sharding of one layer's parameters (without the stacked axis), by path below `layers`.
LAYER_SPECS = {
  "attention/q": ("fsdp", "tensor"),
  "attention/k": ("fsdp", "tensor"),
  "attention/v": ("fsdp", "tensor"),
  "attention/o": ("tensor", "fsdp"),
  "attention/q_bias": ("tensor",),
  "attention/k_bias": ("tensor",),
  "attention/v_bias": ("tensor",),
  "attention/q_norm": (None,),
  "attention/k_norm": (None,),
  "mlp/gate": ("fsdp", "tensor"),
  "mlp/up": ("fsdp", "tensor"),
  "mlp/down": ("tensor", "fsdp"),
  "norm/attention": (None,),
  "norm/mlp": (None,),
}


@dataclasses.dataclass(frozen=True)
class Config:
  """Shape of a transformer; hashable, so that it can be a static argument.

  Attributes:
    vocab: true vocabulary size V, tokens.
    width: D, the residual stream.
    depth: L, layers.
    heads: query heads.
    kv_heads: key/value heads; divides `heads`.
    head_width: width of one head; even.
    hidden: width of the SwiGLU block.
    rope_theta: base of the rotary wavelengths.
    norm_eps: added to the mean square in RMSNorm.
    qkv_bias: whether q, k and v have biases.
    qk_norm: whether q and k are normalised per head.
    tied: whether the head is the embedding.
    dtype: compute dtype, `float32` or `bfloat16`; parameters stay as they are given.
    remat: what the backward pass recomputes: `none`, `full` (each layer) or `dots` (all but the
      results of matrix products).
    parts: attributes that a reward model scores apart; 0: none. A language model has none.
    embedding: length of a reward model's preference embedding, even; 0: none.
    unit: whether that embedding is scaled to length 1.
    critic: whether a language model predicts the return as well (a value head); PPO reads it.

  Raises:
    Refused: a shape that cannot be, in a sentence.
  """

  vocab: int
  width: int
  depth: int
  heads: int
  kv_heads: int
  head_width: int
  hidden: int
  rope_theta: float = 10_000.0
  norm_eps: float = 1e-6
  qkv_bias: bool = False
  qk_norm: bool = False
  tied: bool = True
  dtype: str = "float32"
  remat: str = "none"
  parts: int = 0
  embedding: int = 0
  unit: bool = False
  critic: bool = False

  def __post_init__(self):
    for name in ("vocab", "width", "depth", "heads", "kv_heads", "head_width", "hidden"):
      value = getattr(self, name)
      if type(value) is not int or value < 1:
        raise Refused(f"a model's {name} must be a whole number of at least 1; got {value!r}.")
    for name in ("parts", "embedding"):
      value = getattr(self, name)
      if type(value) is not int or value < 0:
        raise Refused(f"a model's {name} must be a whole number of at least 0; got {value!r}.")
    if self.embedding % 2:
      raise Refused(f"embedding={self.embedding} must be even: it is made of planes.")
    if self.heads % self.kv_heads:
      raise Refused(f"heads={self.heads} is not a multiple of kv_heads={self.kv_heads}.")
    if self.head_width % 2:
      raise Refused(f"head_width={self.head_width} must be even: rotary positions turn pairs.")
    for name in ("rope_theta", "norm_eps"):
      if not getattr(self, name) > 0:
        raise Refused(f"a model's {name} must be above 0; got {getattr(self, name)!r}.")
    for name, options in (("dtype", DTYPES), ("remat", REMAT)):
      value = getattr(self, name)
      if value not in options:
        raise Refused(
          f"a model's {name} cannot be {value!r}. {call.nearest(str(value), options)}"
          f"It can be: {', '.join(options)}."
        )

  @property
  def padded_vocab(self) -> int:
    """Rows of the embedding and columns of the head: V rounded up to a multiple of 64."""
    return -(-self.vocab // MULTIPLE) * MULTIPLE


def layer_shapes(config: Config) -> dict[str, tuple[int, ...]]:
  """Shapes of one layer's parameters by path below `layers`."""
  d, f, w = config.width, config.hidden, config.head_width
  q, kv = config.heads * w, config.kv_heads * w
  shapes = {"attention/q": (d, q), "attention/k": (d, kv), "attention/v": (d, kv)}
  shapes |= {"attention/o": (q, d), "mlp/gate": (d, f), "mlp/up": (d, f), "mlp/down": (f, d)}
  shapes |= {"norm/attention": (d,), "norm/mlp": (d,)}
  if config.qkv_bias:
    shapes |= {"attention/q_bias": (q,), "attention/k_bias": (kv,), "attention/v_bias": (kv,)}
  if config.qk_norm:
    shapes |= {"attention/q_norm": (w,), "attention/k_norm": (w,)}
  return shapes


def init(key, config: Config):
  """Random trunk: `embed`, `layers/...`, `final_norm`, in float32.

  Weights are normal with variance 1 / fan-in, those that write to the residual stream divided by
  sqrt(2 L) more; the embedding has standard deviation 0.02; norms are 1 and biases 0.
  """
  layers = {}
  for i, (name, shape) in enumerate(layer_shapes(config).items()):
    block, leaf = name.split("/")
    full = (config.depth, *shape)
    if len(shape) == 1:
      array = jnp.zeros(full) if leaf.endswith("_bias") else jnp.ones(full)
    else:
      scale = shape[0] ** -0.5
      if leaf in ("o", "down"):
        scale /= math.sqrt(2 * config.depth)
      array = scale * jax.random.normal(jax.random.fold_in(key, i + 1), full, jnp.float32)
    layers.setdefault(block, {})[leaf] = array
  embed = jax.random.normal(jax.random.fold_in(key, 0), (config.padded_vocab, config.width))
  return {"embed": 0.02 * embed, "layers": layers, "final_norm": jnp.ones(config.width)}


def rules(config: Config) -> tuple:
  """Sharding rules `(regex, spec)` of the trunk; exactly the parameters that exist."""
  layers = tuple((f"layers/{name}", (None, *LAYER_SPECS[name])) for name in layer_shapes(config))
  return (("embed", ("tensor", "fsdp")), *layers, ("final_norm", (None,)))


def gathered(array, spec, config: Config):
  """A weight in the compute dtype, whole along `fsdp` while it is used."""
  spec = tuple(None if axis == "fsdp" else axis for axis in spec)
  return sharding.shard(array.astype(DTYPES[config.dtype]), *spec)


def rms_norm(x, scale, eps):
  """`x / sqrt(mean(x^2) + eps) * scale` over the last axis, in float32; keeps x's dtype."""
  wide = x.astype(jnp.float32)
  inverse = jax.lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + eps)
  return (wide * inverse * scale.astype(jnp.float32)).astype(x.dtype)


def rotary(position, config: Config):
  """Cosine and sine of the rotary angles, f32[N, T, 1, head_width / 2].

  Args:
    position: i32[N, T], index of each token in its sequence.
    config: gives `head_width` and `rope_theta`.
  """
  half = config.head_width // 2
  frequency = config.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angle = position.astype(jnp.float32)[:, :, None, None] * frequency
  return jnp.cos(angle), jnp.sin(angle)


def rotate(x, angles):
  """Rotates the pairs (i, i + head_width / 2) of `x[N, T, heads, head_width]` by `angles`."""
  cos, sin = angles
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


def linear(x, weight):
  """`x[N, T, D] @ weight[D, F]` as one flat product: its gradient is faster on CPU than batched."""
  n, t, d = x.shape
  return (x.reshape(n * t, d) @ weight).reshape(n, t, -1)


def _heads(x, weights, config, angles):
  """q `[N, T, H, d]`, k and v `[N, T, J, d]` of normed activations, q and k rotated."""
  n, t, _ = x.shape
  out = []
  for name in "qkv":
    y = linear(x, weights[name])
    if config.qkv_bias:
      y = y + weights[f"{name}_bias"]
    y = y.reshape(n, t, -1, config.head_width)
    if name != "v":
      if config.qk_norm:
        y = rms_norm(y, weights[f"{name}_norm"], config.norm_eps)
      y = rotate(y, angles)
    out.append(y)
  return out


def layer(x, weights, config: Config, angles, attend):
  """One layer of the trunk.

  Args:
    x: [N, T, D], residual stream in the compute dtype.
    weights: this layer's parameters.
    config: the model.
    angles: from `rotary`.
    attend: `attend(q, k, v) -> (out [N, T, H, d], extra)`; decoding reads its cache there.

  Returns:
    The residual stream after the layer, and `extra`.
  """
  weights = jax.tree_util.tree_map_with_path(
    lambda path, w: gathered(w, LAYER_SPECS[sharding.path_name(path)], config), weights
  )
  q, k, v = _heads(
    rms_norm(x, weights["norm"]["attention"], config.norm_eps), weights["attention"], config, angles
  )
  out, extra = attend(q, k, v)
  x = x + linear(out.reshape(*x.shape[:2], -1), weights["attention"]["o"])
  y = rms_norm(x, weights["norm"]["mlp"], config.norm_eps)
  mlp = weights["mlp"]
  x = x + linear(jax.nn.silu(linear(y, mlp["gate"])) * linear(y, mlp["up"]), mlp["down"])
  return sharding.shard(x, sharding.BATCH, None, None), extra


def embed(params, config: Config, tokens):
  """Embeddings of `tokens[N, T]` in the compute dtype."""
  x = params["embed"][tokens].astype(DTYPES[config.dtype])
  return sharding.shard(x, sharding.BATCH, None, None)


def scan_layers(config: Config, body, carry, xs):
  """`jax.lax.scan` over layers with the model's rematerialisation; unrolled where shallow."""
  unroll = config.depth if config.depth <= UNROLLED else 1
  return jax.lax.scan(REMAT[config.remat](body), carry, xs, unroll=unroll)


def trunk(params, config: Config, tokens, valid, position, *, keep: bool = False):
  """All layers and the final norm.

  Args:
    params: from `init`.
    config: the model.
    tokens: i32[N, T]; any id where `valid` is false.
    valid: bool[N, T], true on real tokens; padding may stand anywhere.
    position: i32[N, T], index of a real token in its sequence.
    keep: whether to return keys and values, for a cache.

  Returns:
    hidden: [N, T, D] in the compute dtype; of no meaning on padding.
    kept: `(k, v)`, each [L, N, T, J, d], or None.
  """
  chex.assert_equal_shape([tokens, valid, position])
  angles = rotary(position, config)
  t = tokens.shape[1]
  mask = valid[:, None, :] & jnp.tril(jnp.ones((t, t), bool))

  def body(x, weights):
    return layer(
      x,
      weights,
      config,
      angles,
      lambda q, k, v: (attention(q, k, v, mask=mask), (k, v) if keep else None),
    )

  x, kept = scan_layers(config, body, embed(params, config, tokens), params["layers"])
  return rms_norm(x, params["final_norm"], config.norm_eps), kept


def last_true(flags):
  """Index of the last true entry of each row of `flags[N, T]`, -1 where there is none.

  >>> print(last_true(jnp.asarray([[True, True, False], [False, False, False]])))
  [ 1 -1]
  """
  return jnp.where(flags, jnp.arange(flags.shape[1]), -1).max(-1)
