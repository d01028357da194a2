"""What is fast and odd: each function equals the one line in its docstring. Floor 1.

``dense`` and ``biased`` have gradients that XLA for CPUs computes well, ``recurrence`` takes the
gradients of matrices out of a loop, ``lstm_cell`` has its derivative written out. Tests hold value
and gradient equal to the lines. No other room touches ``jax.extend`` or ``jax.interpreters``.
"""
