"""Pruning: which weights stay, and training that keeps the others at exactly 0.

A mask is a pytree like the parameters, of booleans, True where a weight stays. It is chosen by a
saliency (the magnitude if none is given) under one of three schemes, of See et al. 2016:

    mask = class_blind(params, 0.8)                    one threshold for all
    mask = class_uniform(params, 0.8)                  the same share of each class
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

Predicate = Callable[[str], bool]  # of an array's name, as ``jax.tree_util.keystr`` gives it


def every_array(name: str) -> bool:
    """Prunes all there is, as Table 3 of Kim & Rush 2016 counts."""
    del name
    return True


def no_embedding(name: str) -> bool:
    """Spares word embeddings, as the code of Kim & Rush does."""
    return "embedding" not in name


def module_of(name: str) -> str:
    """The class of an array: the module that holds it; an embedding is a class of its own."""
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
    """Keeps the most salient weights, wherever they are.

    Exactly ``round(ratio * n)`` of n prunable weights go, halves rounded up. Of equally salient
    ones those go that come first, in the order of arrays and of places within an array.

    Args:
      params: of any model.
      ratio: share of the prunable weights that goes, 0 to 1.
      saliency: like ``params``, of what is lost with each weight; magnitudes if left out.
      mask: of an earlier pruning. What it took counts as gone and is never given back.
      prunable: says by its name whether an array is pruned at all.

    Raises:
      UsageError: the ratio makes no sense, nothing is prunable, or a saliency is not a number.

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
    """Keeps the most salient weights of each class: the same share of every one.

    ``class_of`` gives the class of an array by its name; all else as for ``class_blind``.
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
    """Prunes what is smaller than lambda standard deviations of its class.

    Lambda is the same for all classes, and the one that meets the ratio: so this is
    ``class_blind`` by magnitudes that are divided by the deviation of their class (of the
    weights that an earlier ``mask`` left). A class without deviation is pruned last.
    """
    arrays = _arrays(params, ratio, None, mask, prunable)
    signed = {name: np.asarray(leaf).ravel() for name, leaf in _named(params).items()}
    for members in _classes(arrays, class_of):
        left = [signed[name][score >= 0] for name, score in members.items()]
        deviation = np.concatenate(left).std(dtype=np.float64) if any(map(np.size, left)) else 0.0
        for name, score in members.items():
            scaled = score / deviation if deviation else np.where(score > 0, np.inf, score)
            arrays[name] = np.where(score < 0, score, scaled)
    return _mask(params, dict(zip(arrays, _kept(list(arrays.values()), ratio), strict=True)), mask)


def apply_mask(params: Params, mask: Params) -> Params:
    """Returns the parameters with 0 where the mask is False."""
    return jax.tree.map(lambda w, m: np.where(m, w, np.zeros_like(w)), params, mask)


def prune_gradually(
    params: Params,
    ratios: Iterable[float],
    choose: Callable[[Params, float, Params], Params],
    retrain: Callable[[Params, Params, float], Params],
    mask: Params = None,
) -> tuple[Params, Params]:
    """Prunes in several rounds, with training between them; returns parameters and mask.

    Args:
      params: of a trained model.
      ratios: rising, of each round; every one is of all prunable weights.
      choose: (params, ratio, mask of the round before or None) -> mask.
      retrain: (pruned params, mask, ratio) -> trained params, 0 where the mask is False.
      mask: of an earlier pruning.

    Raises:
      UsageError: the ratios do not rise.
    """
    ratios = list(ratios)
    if not ratios or any(a >= b for a, b in zip(ratios, ratios[1:], strict=False)):
        raise UsageError(f"ratios is {ratios}: they must rise from round to round.")
    for ratio in ratios:
        mask = choose(params, ratio, mask)
        params = retrain(apply_mask(params, mask), mask, ratio)
    return params, mask


class Masked(NamedTuple):
    """State of ``masked``: so every checkpoint holds the mask."""

    mask: Params
    inner: Any


def masked(tx: optax.GradientTransformation, mask: Params) -> optax.GradientTransformationExtraArgs:
    """Lets an optimiser move only what the mask keeps; all else is exactly 0 after every update.

    Gradients are masked before ``tx``, so what was pruned counts neither in the norm that is
    clipped nor in moments; updates are masked after it, whatever ``tx`` made of them.
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
        seen = jax.tree.map(lambda g, m: jnp.where(m, g, 0), updates, state.mask)
        moves, inner_state = inner.update(seen, state.inner, params, **extra)
        # What is added to a pruned weight leaves 0 of it.
        moves = jax.tree.map(lambda u, w, m: jnp.where(m, u, -w), moves, params, state.mask)
        return moves, Masked(state.mask, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _named(tree: Params) -> dict[str, Any]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def _paired(a: Params, b: Params) -> dict[str, tuple[Any, Any]]:
    a, b = _named(a), _named(b)
    if a.keys() != b.keys():
        raise UsageError(f"mask: arrays are missing or superfluous: {sorted(a.keys() ^ b.keys())}.")
    return {name: (a[name], b[name]) for name in a}


def _arrays(
    params: Params, ratio: float, saliency: Params, mask: Params, prunable: Predicate
) -> dict[str, np.ndarray]:
    """The flat saliencies of each prunable array; -1 where ``mask`` took a weight before."""
    if not 0 <= ratio <= 1:
        raise UsageError(f"ratio is {ratio}; the share that is pruned must be from 0 to 1.")
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
    """Which of these weights stay, if together they lose ``ratio``."""
    flat = np.concatenate(scores)
    count = int(np.floor(ratio * flat.size + 0.5))
    keep = np.ones(flat.size, bool)
    if count:
        threshold = np.partition(flat, count - 1)[count - 1]
        keep = flat > threshold
        ties = np.flatnonzero(flat == threshold)
        keep[ties[count - np.count_nonzero(flat < threshold) :]] = True
    return np.split(keep, np.cumsum([s.size for s in scores])[:-1])


def _mask(params: Params, kept: dict[str, np.ndarray], before: Params) -> Params:
    """Puts flat masks into the shape of the parameters."""

    def whole(path: Any, w: Any) -> np.ndarray:
        flat = kept.get(jax.tree_util.keystr(path))
        return np.ones(np.shape(w), bool) if flat is None else flat.reshape(np.shape(w))

    mask = jax.tree_util.tree_map_with_path(whole, params)
    return mask if before is None else jax.tree.map(np.logical_and, mask, before)
