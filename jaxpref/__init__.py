"""jaxpref: preference learning in JAX, as pure functions of named arrays."""

__version__ = "0.1.0"
