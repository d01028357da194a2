"""Sutskever et al. 2014, "Sequence to Sequence Learning with Neural Networks".

model = attention_lstm(config, reader=without_attention(), order=REVERSED)
"""

from typing import Any

import jax.numpy as jnp
import optax

from ..base import Array
from ..models.blocks import Reader, cached
from ..models.reading_order import Order

REVERSED = Order(reverse=True)  # last word first (section 3.3)


@cached
def without_attention() -> Reader:
    """Returns a reader without attention: only the decoder's initial states depend on the source.

    Source: Sutskever et al. 2014, section 2.
    """
    return Reader()


def half_epoch_sgd(
    steps_per_epoch: int, rate: float = 0.7, start: float = 5.0, clip: float = 5.0
) -> optax.GradientTransformation:
    """Returns SGD with clipping, whose rate is halved every half epoch after ``start`` epochs.

    Source: Sutskever et al. 2014, section 3.4 (7.5 epochs in all, no momentum).
    """

    def schedule(step: Any) -> Array:
        halves = jnp.floor((step / steps_per_epoch - start) * 2) + 1
        return rate * 0.5 ** jnp.maximum(halves, 0)

    return optax.chain(optax.clip_by_global_norm(clip), optax.sgd(schedule))
