"""Anchor states of texts: observations that are alike get one key (host side)."""

from __future__ import annotations

import difflib
import zlib

import numpy as np


def exact(texts) -> np.ndarray:
  """u32 hash of each text; equal texts have equal keys.

  Args:
    texts: strings, observations without history or step counters.

  >>> key = exact(["a", "b", "a"])
  >>> bool(key[0] == key[2]), bool(key[0] == key[1])
  (True, False)
  """
  return np.asarray([zlib.crc32(text.encode()) for text in texts], np.uint32)


def similar(texts, prompts, *, threshold: float = 0.95) -> np.ndarray:
  """u32 key of the cluster of each text: the first one whose first member is similar enough.

  Similarity is `difflib.SequenceMatcher(None, text, first).ratio()`. The result depends on the
  order and is not transitive. Texts of different prompts are never in one cluster.

  Args:
    texts: strings, in the order of the batch.
    prompts: which prompt each text belongs to.
    threshold: similarity from 0 to 1 that is enough.

  Returns:
    u32, numbers of clusters by first appearance.

  >>> print(similar(["room one", "room one.", "street"], [0, 0, 0], threshold=0.9))
  [0 0 1]

  Reference: Feng et al., "Group-in-Group Policy Optimization for LLM Agent Training" (2025),
  released code.
  """
  firsts, keys = [], []
  for text, prompt in zip(texts, prompts, strict=True):
    for key, (first, owner) in enumerate(firsts):
      if owner == prompt and difflib.SequenceMatcher(None, text, first).ratio() >= threshold:
        keys.append(key)
        break
    else:
      keys.append(len(firsts))
      firsts.append((text, prompt))
  return np.asarray(keys, np.uint32)
