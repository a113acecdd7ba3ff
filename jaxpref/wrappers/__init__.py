"""Wrappers: `f(base, *, knobs) -> objective`, an objective made from another.

In a config: `around={fn: lcpo, ...}` in the section of a term.
"""

from jaxpref.wrappers.clamp import humanline
from jaxpref.wrappers.desensitize import length_desensitized
from jaxpref.wrappers.divergence import f_divergence
from jaxpref.wrappers.gold import without_gold
from jaxpref.wrappers.lcpo import lcpo
from jaxpref.wrappers.wpo import wpo

__all__ = ["f_divergence", "humanline", "lcpo", "length_desensitized", "without_gold", "wpo"]
