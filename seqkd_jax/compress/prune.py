"""Pruning: masks of the weights to keep, and training with the other weights fixed at exactly 0.

A mask is a pytree of booleans like the parameters, True for weights that are kept. It is chosen by
saliency (by default the magnitude) with one of the three schemes of See et al. 2016:

    mask = class_blind(params, 0.8)                    one threshold for all weights
    mask = class_uniform(params, 0.8)                  the same ratio in each class
    mask = class_distribution(params, 0.8)             a threshold of lambda standard deviations
    state = init_state(model, masked(tx, mask), key, apply_mask(params, mask))

A class is a module: an LSTM layer with its biases, an embedding, the generator.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..base import Params
from ..errors import UsageError
from ..ranges import rising

Predicate = Callable[[str], bool]  # (name of an array, from ``jax.tree_util.keystr``) -> bool


def every_array(name: str) -> bool:
    """Returns True: all arrays are prunable, as in Table 3 of Kim & Rush 2016."""
    del name
    return True


def no_embedding(name: str) -> bool:
    """Returns whether an array is not an embedding, which Kim & Rush's code does not prune."""
    return "embedding" not in name


def module_of(name: str) -> str:
    """Returns the class of an array: its module, or the array itself if it is an embedding."""
    parent = re.sub(r"(\.\w+|\[[^\]]*\])$", "", name)
    return name if "embedding" in name or not parent else parent


def class_blind(
    params: Params,
    ratio: float,
    *,
    saliency: Params = None,
    mask: Params = None,
    prunable: Predicate = every_array,
) -> Params:
    """Returns a mask that keeps the most salient weights of all classes together.

    Exactly ``round(ratio * n)`` of n prunable weights are pruned, halves rounded up. Ties are
    broken by pruning the first, in the order of arrays and of indices within an array.

    Args:
      params: of any model.
      ratio: fraction of the prunable weights to prune, 0 to 1.
      saliency: a pytree like ``params``, the cost of removing each weight; None for magnitudes.
      mask: of an earlier pruning. The weights that it pruned count as pruned and stay pruned.
      prunable: whether the array of a name may be pruned.

    Raises:
      UsageError: the ratio is out of range, no array is prunable, or a saliency is negative or nan.

    Source: See, Luong & Manning 2016, section 3.2.
    """
    arrays = _arrays(params, ratio, saliency, mask, prunable)
    return _mask(params, dict(zip(arrays, _kept(list(arrays.values()), ratio), strict=True)), mask)


def class_uniform(
    params: Params,
    ratio: float,
    *,
    saliency: Params = None,
    mask: Params = None,
    prunable: Predicate = every_array,
    class_of: Callable[[str], str] = module_of,
) -> Params:
    """Returns a mask that keeps the most salient weights of each class, the same ratio in all.

    ``class_of`` maps the name of an array to its class; other arguments are as in ``class_blind``.
    """
    kept: dict[str, np.ndarray] = {}
    for members in _classes(_arrays(params, ratio, saliency, mask, prunable), class_of):
        kept |= dict(zip(members, _kept(list(members.values()), ratio), strict=True))
    return _mask(params, kept, mask)


def class_distribution(
    params: Params,
    ratio: float,
    *,
    mask: Params = None,
    prunable: Predicate = every_array,
    class_of: Callable[[str], str] = module_of,
) -> Params:
    """Returns a mask that prunes weights smaller than lambda standard deviations of their class.

    Lambda is the same for all classes and chosen to meet the ratio: this equals ``class_blind``
    with magnitudes divided by the standard deviation of their class (of the weights kept by an
    earlier ``mask``). A class whose deviation is 0 is pruned last.
    """
    arrays = _arrays(params, ratio, None, mask, prunable)
    signed = {name: np.asarray(leaf).ravel() for name, leaf in _named(params).items()}
    for members in _classes(arrays, class_of):
        kept = [signed[name][score >= 0] for name, score in members.items()]
        deviation = np.concatenate(kept).std(dtype=np.float64) if any(map(np.size, kept)) else 0.0
        for name, score in members.items():
            scaled = score / deviation if deviation else np.where(score > 0, np.inf, score)
            arrays[name] = np.where(score < 0, score, scaled)
    return _mask(params, dict(zip(arrays, _kept(list(arrays.values()), ratio), strict=True)), mask)


def apply_mask(params: Params, mask: Params) -> Params:
    """Returns the parameters with 0 where the mask is False."""
    return jax.tree.map(lambda w, m: np.where(m, w, np.zeros_like(w)), params, mask)


def pruned_share(mask: Params, prunable: Predicate = every_array) -> float:
    """Returns the share of the prunable weights that a mask prunes."""
    flat = [np.ravel(keep) for name, keep in _named(mask).items() if prunable(name)]
    return 1 - float(np.concatenate(flat).mean()) if flat else 0.0


def prune_gradually(
    params: Params,
    ratios: Iterable[float],
    choose: Callable[[Params, float, Params], Params],
    retrain: Callable[[Params, Params, float], Params],
    mask: Params = None,
) -> tuple[Params, Params]:
    """Prunes in several rounds and retrains after each; returns parameters and mask.

    Args:
      params: of a trained model.
      ratios: of the rounds, ascending; each is a fraction of all prunable weights.
      choose: (params, ratio, mask of the previous round or None) -> mask.
      retrain: (pruned params, mask, ratio) -> trained params, 0 where the mask is False.
      mask: of an earlier pruning.

    Raises:
      UsageError: the ratios do not ascend.
    """
    for ratio in rising(ratios):
        mask = choose(params, ratio, mask)
        params = retrain(apply_mask(params, mask), mask, ratio)
    return params, mask


class Masked(NamedTuple):
    """The state of ``masked``, with the mask, so that every checkpoint contains it."""

    mask: Params
    inner: Any


def masked(tx: optax.GradientTransformation, mask: Params) -> optax.GradientTransformationExtraArgs:
    """Restricts an optimiser to the kept weights; pruned weights are exactly 0 after every update.

    Gradients are masked before ``tx``, so pruned weights affect neither the norm for clipping nor
    the moments; updates are masked after ``tx``, whatever it computed.

    Raises:
      UsageError: when the state is made, if the mask has other shapes than the weights.
    """
    inner = optax.with_extra_args_support(tx)

    def init(params: Params) -> Masked:
        for name, (m, w) in _paired(mask, params).items():
            if np.shape(m) != np.shape(w):
                raise UsageError(
                    f"mask{name} has shape {np.shape(m)}, but the weights have {np.shape(w)}."
                )
        return Masked(jax.tree.map(lambda m: jnp.array(m, bool), mask), inner.init(params))

    def update(updates, state: Any, params=None, **extra):
        if params is None:
            raise UsageError("masked: update must be called with the parameters.")
        gradients = jax.tree.map(lambda g, m: jnp.where(m, g, 0), updates, state.mask)
        updates, inner_state = inner.update(gradients, state.inner, params, **extra)
        # The update of a pruned weight makes it 0.
        updates = jax.tree.map(lambda u, w, m: jnp.where(m, u, -w), updates, params, state.mask)
        return updates, Masked(state.mask, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _named(tree: Params) -> dict[str, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _paired(a: Params, b: Params) -> dict[str, tuple[Any, Any]]:
    a, b = _named(a), _named(b)
    if a.keys() != b.keys():
        raise UsageError(f"mask: missing or unexpected arrays: {sorted(a.keys() ^ b.keys())}.")
    return {name: (a[name], b[name]) for name in a}


def _arrays(
    params: Params, ratio: float, saliency: Params, mask: Params, prunable: Predicate
) -> dict[str, np.ndarray]:
    """Returns the flat saliencies of each prunable array; -1 for weights pruned by ``mask``."""
    if not 0 <= ratio <= 1:
        raise UsageError(f"ratio is {ratio}; the fraction to prune must be from 0 to 1.")
    scores = jax.tree.map(np.abs, params) if saliency is None else saliency
    kept = jax.tree.map(lambda w: np.True_, params) if mask is None else mask
    arrays = {}
    for name, (score, keep) in _paired(scores, kept).items():
        if not prunable(name):
            continue
        score = np.asarray(score, np.float32)
        if not np.all(score >= 0):
            raise UsageError(f"params{name}: a saliency is negative or not a number.")
        arrays[name] = np.where(keep, score, np.float32(-1)).ravel()
    if not arrays:
        raise UsageError("There is nothing to prune: no array is prunable.")
    return arrays


def _classes(
    arrays: dict[str, np.ndarray], class_of: Callable[[str], str]
) -> list[dict[str, np.ndarray]]:
    classes: dict[str, dict[str, np.ndarray]] = {}
    for name, scores in arrays.items():
        classes.setdefault(class_of(name), {})[name] = scores
    return list(classes.values())


def _kept(scores: list[np.ndarray], ratio: float) -> list[np.ndarray]:
    """Returns which weights are kept if ``ratio`` of all of them are pruned."""
    flat = np.concatenate(scores)
    count = int(np.floor(ratio * flat.size + 0.5))
    keep = np.ones(flat.size, bool)
    if count:
        threshold = np.partition(flat, count - 1)[count - 1]
        keep = flat > threshold
        ties = np.flatnonzero(flat == threshold)
        keep[ties[count - np.count_nonzero(flat < threshold) :]] = True
    return np.split(keep, np.cumsum([s.size for s in scores])[:-1])


def _mask(params: Params, kept: dict[str, np.ndarray], previous: Params) -> Params:
    """Reshapes flat masks like the parameters and combines them with the previous mask."""

    def array_mask(path: Any, w: Any) -> np.ndarray:
        flat = kept.get(jax.tree_util.keystr(path))
        return np.ones(np.shape(w), bool) if flat is None else flat.reshape(np.shape(w))

    mask = jax.tree_util.tree_map_with_path(array_mask, params)
    return mask if previous is None else jax.tree.map(np.logical_and, mask, previous)
