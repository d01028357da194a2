"""Operations optimised for speed: each equals the one-line expression in its docstring. Floor 1.

``dense`` and ``biased`` have gradients that XLA compiles well for CPUs, ``recurrence`` moves the
gradients of matrices out of the loop, ``lstm_cell`` has a hand-written derivative. Tests compare
values and gradients with those expressions. No other package uses ``jax.extend`` or
``jax.interpreters``.
"""
