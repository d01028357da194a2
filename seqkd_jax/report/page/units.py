"""The units that the page shows: words, or characters where words have no spaces between them.

A model reads and writes tokens. What it gives to tokens is shown for the units that they spell.
"""

from collections.abc import Sequence

import numpy as np

from ...tokens import SPECIAL, UNK, WORD_START, words_of

DIGITS = np.array(list("0123456789abcdefghijklmnopqrstuvwxyz"))  # weights from 0 to 1


def units_of(text: str, spaced: bool) -> list[str]:
    """Returns the units of a text; page.js has the same rule."""
    words = words_of(text)
    return words if spaced else list("".join(words))


def unit_weights(
    weights: np.ndarray,
    tokens: tuple[Sequence[str], Sequence[str]],
    units: tuple[Sequence[str], Sequence[str]],
) -> np.ndarray | None:
    """Returns attention weights between units [target units, source units].

    What the tokens of a unit attend to is averaged; what the tokens of an attended unit get is
    added up.

    Args:
      weights: of tokens [T, S], without EOS.
      tokens: of the target and of the source, T and S of them.
      units: of the target and of the source.

    Returns:
      The weights; None if some token cannot be found in the text, as after normalisation.
    """
    target, source = (_spelt(t, u) for t, u in zip(tokens, units, strict=True))
    if target is None or source is None:
        return None
    return (target / np.maximum(target.sum(1, keepdims=True), 1e-9)) @ weights @ source.T


def _spelt(tokens: Sequence[str], units: Sequence[str]) -> np.ndarray | None:
    """Returns the share of each token [units, tokens] that lies in each unit."""
    if len(tokens) == len(units):
        return np.eye(len(units))
    texts = [token.replace(WORD_START, "") for token in tokens]
    if "".join(texts).lower() != "".join(units).lower() or SPECIAL[UNK] in texts:
        return None
    ends = [np.cumsum([0, *map(len, side)]) for side in (units, texts)]
    low = np.maximum(ends[0][:-1, None], ends[1][None, :-1])
    high = np.minimum(ends[0][1:, None], ends[1][None, 1:])
    sizes = np.maximum(np.array(list(map(len, texts))), 1)
    return np.maximum(high - low, 0) / sizes


def digits(weights: np.ndarray) -> str:
    """Returns weights row by row, a digit of base 36 for each: z is 1."""
    return "".join(DIGITS[np.clip(np.rint(35 * weights), 0, 35).astype(int)].ravel())
