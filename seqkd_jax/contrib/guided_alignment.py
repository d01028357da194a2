"""Guided alignment: attention weights are trained towards given word alignments.

    model = with_attention_output(network)
    loss = weighted((0.5, on_logits(nll)), (0.5, on_hidden(alignment_mse)))
    step = make_train_step(model, tx, loss)
    links = read_alignments("train.align", pairs)
    for batch in with_alignments(batches(...), links):      # Example.teacher_targets
        state, metrics = step(state, batch, key)

Alignments are files in Pharaoh format: one line per pair, with links ``i-j`` from source word i to
target word j, counted from 0. Each target position is guided by the links of the word predicted
there; positions without links, such as that of EOS, have no such loss.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..addresses import PathLike
from ..base import Array, Example, Seq2Seq
from ..data.text import read_lines, words_of
from ..errors import UsageError, quoted
from ..models.attention_lstm import model_of
from ..models.inspection import hidden_and_weights, require_attention
from ..models.network import Network
from ..models.params import AttentionLSTMParams, cast_params
from .hint import OutputsWithHidden

Links = list[tuple[int, int]]  # (source word, target word)


@functools.cache
def with_attention_output(net: Network) -> Seq2Seq:
    """Returns the model with ``project`` returning ``OutputsWithHidden``; parameters are unchanged.

    The outputs are the logits [V] and, as ``hidden``, the attention weights [S] for losses that
    guide them. For a search use the original model. Raises UsageError without an attention.

    Source: Chen et al. 2016 (guided alignment training), section 3.
    """
    require_attention(net)
    model = model_of(net)

    def hidden(params: AttentionLSTMParams, src: Array, tgt: Array, key: Array | None = None):
        cast = cast_params(params, net.config.dtype)
        return hidden_and_weights(net, cast, src, tgt, key)

    def project(params: AttentionLSTMParams, hidden: tuple[Array, Array]) -> Any:
        return OutputsWithHidden(model.project(params, hidden[0]), hidden[1])

    return model._replace(hidden=hidden, project=project)


def alignment_mse(weights: Array, target: Array, alignment: Array) -> Array:
    """Returns the squared distance of attention weights [S] from the alignment [S].

    The sum over the source, where seq2seq-attn takes the mean: long sentences count no less.

    Source: Chen et al. 2016, section 3.2.
    """
    del target
    return _where_linked(alignment, ((weights - alignment) ** 2).sum())


def alignment_ce(weights: Array, target: Array, alignment: Array) -> Array:
    """Returns the cross-entropy of attention weights [S] to the alignment [S], in nats.

    Source: Chen et al. 2016, section 3.2.
    """
    del target
    return _where_linked(alignment, -(alignment * jnp.log(jnp.maximum(weights, 1e-9))).sum())


def _where_linked(alignment: Array, loss: Array) -> Array:
    return jnp.where(alignment.sum() > 0, loss, 0.0)


def read_alignments(path: PathLike, pairs: Sequence[tuple[str, str]]) -> list[Links]:
    """Reads the links of each pair and checks them against its words.

    Words are separated by ASCII whitespace: only models with word vocabularies can be guided.

    Raises:
      FileNotFoundError: the file does not exist.
      UsageError: the file has another number of lines than pairs, or a link is malformed or points
        beyond its sentence; the message names the line.
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
    # No sentence has more words than nine digits can count, and int() rejects thousands of digits.
    if not (separator and i.isdecimal() and j.isdecimal() and len(text) < 20):
        raise UsageError(
            f"{where}: {quoted(text, 60)} is not a link; write SOURCE-TARGET, both counted from 0."
        )
    words = len(words_of(source)), len(words_of(target))
    if int(i) >= words[0] or int(j) >= words[1]:
        raise UsageError(
            f"{where}: {text} points beyond the sentence, which has {words[0]} source and "
            f"{words[1]} target words; align the same text that the model is trained on."
        )
    return int(i), int(j)


def alignment_matrix(links: Links, tgt_len: int, src_len: int) -> np.ndarray:
    """Returns the alignment as a matrix [T, S] float32.

    Row j belongs to the position that predicts word j: uniform over the source words linked to it,
    summing to 1. Rows of words without links and of EOS are 0.
    """
    matrix = np.zeros((tgt_len, src_len), np.float32)
    for i, j in links:
        matrix[j, i] = 1
    return matrix / np.maximum(matrix.sum(1, keepdims=True), 1)


def with_alignments(batches: Iterator[Example], links: Sequence[Links]) -> Iterator[Example]:
    """Adds to each batch the alignments of its pairs, [B, T, S], as ``teacher_targets``.

    Raises:
      UsageError: a link points beyond a pair's tokens, so its vocabularies are not of words.
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
        yield replace(batch, teacher_targets=OutputsWithHidden(**fields))
