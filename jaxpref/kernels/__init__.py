"""Operations that models call and that may have several implementations."""

from jaxpref.kernels.attention import attention
from jaxpref.kernels.linear_logp import linear_logits, linear_logp

__all__ = ["attention", "linear_logits", "linear_logp"]
