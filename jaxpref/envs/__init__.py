"""Environments: `name(*, knobs) -> Env`, pure functions of texts on the host; nothing needs jax.

An environment is reset to a record of the data and steps with what the policy says. It is read
through `jaxpref.envs.env.Env`; `jaxpref.episodes` plays it.
"""

from jaxpref.envs.bandit import bandit
from jaxpref.envs.calculator import calculator
from jaxpref.envs.grid import keydoor

__all__ = ["bandit", "calculator", "keydoor"]
