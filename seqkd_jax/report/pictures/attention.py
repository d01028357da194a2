"""Where a model attends."""

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ...models.inspection import alignments
from ...trained import TrainedModel
from .fonts import families
from .style import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def attention_map(
    trained: TrainedModel, source: str, target: str, ax: "Axes | None" = None
) -> "Axes":
    """Draws where in ``source`` a model attends while it predicts each token of ``target``.

    The darker, the larger the weight (``models.inspection.alignments``); each row adds up to 1.
    Words may be of any script for which a font is installed.

    Raises UsageError if the model has no attention that the library knows. Source: Bahdanau et al.
    2015, figure 3.
    """
    src, tgt = trained.src_vocab.encode(source), trained.tgt_vocab.encode(target)
    weigh = jax.jit(functools.partial(alignments, trained.network))
    weights = weigh(trained.params, jnp.array(src), jnp.array(tgt))
    return attention_matrix(
        np.asarray(weights), trained.src_vocab.tokens(src), trained.tgt_vocab.tokens(tgt), ax
    )


def attention_matrix(
    weights: np.ndarray, source: list[str], target: list[str], ax: "Axes | None" = None
) -> "Axes":
    """Draws attention weights [T, S] between the words of a target [T] and of a source [S]."""
    axes: Any = axes_or_new(ax, (2.5 + 0.4 * len(source), 1.5 + 0.3 * len(target)))
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    # Words are not formulas, though they may contain dollar signs.
    look = {"fontfamily": families([*source, *target]), "parse_math": False}
    axes.set_xticks(
        range(len(source)), source, rotation=60, ha="right", rotation_mode="anchor", **look
    )
    axes.set_yticks(range(len(target)), target, **look)
    axes.set_xlabel("source")
    axes.set_ylabel("target")
    axes.figure.colorbar(image, ax=axes, label="attention weight")
    return axes
