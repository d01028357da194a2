"""Word alignments from Pharaoh files: a line of ``i-j`` for each pair, source-target, from 0."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..base import Example, Hinted
from ..errors import UsageError, quoted
from ..files import PathLike
from .text import read_lines, words_of

Links = list[tuple[int, int]]  # (source word, target word)


def read_alignments(path: PathLike, pairs: Sequence[tuple[str, str]]) -> list[Links]:
    """Reads the links of each pair, checked against its words.

    Words are what ASCII whitespace separates: models of words can be guided, those of pieces not.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file has another number of lines, or a link is malformed or points beyond
        its sentence; the message names the line.
    """
    lines = read_lines(path)
    if len(lines) != len(pairs):
        raise UsageError(
            f"{path} has {len(lines)} lines for {len(pairs)} pairs; each pair needs one line."
        )
    return [
        [_link(f"{path}:{number}", text, *pair) for text in words_of(line)]
        for number, (line, pair) in enumerate(zip(lines, pairs, strict=True), 1)
    ]


def _link(where: str, text: str, source: str, target: str) -> tuple[int, int]:
    i, separator, j = text.partition("-")
    # No sentence has more words than nine digits can say, and int() refuses thousands of them.
    if not (separator and i.isdecimal() and j.isdecimal() and len(text) < 20):
        raise UsageError(
            f"{where}: {quoted(text, 60)} is not a link; write SOURCE-TARGET, both counted from 0."
        )
    words = len(words_of(source)), len(words_of(target))
    if int(i) >= words[0] or int(j) >= words[1]:
        raise UsageError(
            f"{where}: {text} points beyond the sentence, which has {words[0]} source and "
            f"{words[1]} target words; align the text in the form that the model is trained on."
        )
    return int(i), int(j)


def alignment_matrix(links: Links, tgt_len: int, src_len: int) -> np.ndarray:
    """Returns [T, S] float32: in the row of each target word its source words, summing to 1.

    Row j is the position that predicts word j. Rows of words without links are 0, as is that of
    the end of the sentence.
    """
    matrix = np.zeros((tgt_len, src_len), np.float32)
    for i, j in links:
        matrix[j, i] = 1
    return matrix / np.maximum(matrix.sum(1, keepdims=True), 1)


def with_alignments(batches: Iterator[Example], links: Sequence[Links]) -> Iterator[Example]:
    """Puts the alignments of its pairs beside each batch, in ``taught``, [B, T, S].

    Raises:
      UsageError: a pair is shorter than its links, so it was not made of words.
    """
    for batch in batches:
        (rows, src_len), tgt_len = batch.src.shape[:2], batch.tgt.shape[1]
        matrices = np.zeros((rows, tgt_len, src_len), np.float32)
        for row, index in enumerate(np.asarray(batch.index)):
            if index < 0:
                continue
            try:
                matrices[row] = alignment_matrix(links[index], tgt_len, src_len)
            except IndexError:
                raise UsageError(
                    f"pair {index}: its alignment has more words than tokens; guided alignment "
                    "needs vocabularies of words."
                ) from None
        fields: Any = {"logits": None, "hidden": matrices}
        yield replace(batch, taught=Hinted(**fields))
