"""Replacing unknown words: copied from the source, or translated by a dictionary.

Each ``<unk>`` in a translation is replaced by the source word with the highest attention weight,
or by the translation of that word in a dictionary (Luong et al. 2015, section 4; Jean et al. 2015,
section 3.3).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ..addresses import PathLike
from ..base import PAD, UNK
from ..data import encode_pairs
from ..data.batches import BATCH_MULTIPLE, SOURCE_LENGTHS
from ..data.text import read_lines, words_of
from ..data.vocab import WordVocabulary
from ..errors import UsageError, quoted
from ..models.attention_lstm import AttentionLSTMParams
from ..settings import GREEDY
from ..trained import TrainedModel
from .attention import aligner
from .nbest import NBest

SEPARATOR = "|||"


def replace_unknown(
    words: Sequence[str],
    unknown: Sequence[bool],
    attention: np.ndarray,
    source: Sequence[str],
    dictionary: Mapping[str, str],
) -> list[str]:
    """Returns the words with each unknown one replaced; pure.

    Args:
      words: of a translation, [T].
      unknown: which of them to replace, [T].
      attention: weights [T, S] at the prediction of each word.
      source: words [S].
      dictionary: translations of source words; words that it lacks are copied.
    """
    best = np.asarray(attention)[: len(words), : len(source)].argmax(1)
    attended: list[str] = [source[int(s)] for s in best]
    return [
        dictionary.get(src_word, src_word) if replace else word
        for word, replace, src_word in zip(words, unknown, attended, strict=True)
    ]


def read_dictionary(path: PathLike) -> dict[str, str]:
    """Reads lines ``source word|||translation``, as in seq2seq-attn's ``srctarg_dict``.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: a line has another form, or a word has two translations; the message names the
        line.
    """
    dictionary: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        parts = [part.strip() for part in line.split(SEPARATOR)]
        if len(parts) != 2 or not all(parts) or len(words_of(parts[0])) > 1:
            raise UsageError(
                f"{path}:{number}: {quoted(line, 60)} is not of the form: source "
                f"word{SEPARATOR}translation."
            )
        if dictionary.setdefault(parts[0], parts[1]) != parts[1]:
            raise UsageError(
                f"{path}:{number}: {parts[0]!r} has another translation on an earlier line; "
                "give one of them."
            )
    return dictionary


def check_replaceable(trained: TrainedModel) -> None:
    """Raises UsageError unless the model writes ``<unk>`` for words and its attention is known."""
    vocabularies = trained.src_vocab, trained.tgt_vocab
    if not all(isinstance(vocab, WordVocabulary) for vocab in vocabularies):
        raise UsageError(
            "Only models with vocabularies of words write <unk> for a word; pieces can spell "
            "every word, so there is nothing to replace: leave --replace-unk out."
        )
    if not isinstance(trained.params, AttentionLSTMParams):
        raise UsageError(
            "Only a single attention LSTM can replace unknown words, not an ensemble: leave "
            "--replace-unk out."
        )


def without_unknown(
    trained: TrainedModel,
    lines: Sequence[str],
    nbest: Sequence[NBest],
    dictionary: Mapping[str, str] | None = None,
    max_source: int | None = GREEDY.max_source,
) -> list[NBest]:
    """Replaces the unknown words in the texts of n-best lists; scores and tokens stay the same.

    Args:
      trained: the attention LSTM that made the lists, with vocabularies of words.
      lines: the sources.
      nbest: their translations, with tokens.
      dictionary: see ``replace_unknown``; None for an empty one.
      max_source: length to which the search cut the sources.

    Raises:
      UsageError: see ``check_replaceable``.
    """
    check_replaceable(trained)
    assert isinstance(trained.src_vocab, WordVocabulary)
    sources = [trained.src_vocab.split(line)[:max_source] for line in lines]
    texts = [list(n.texts) for n in nbest]
    with_unk = [
        (index, k)
        for index, n in enumerate(nbest)
        for k, tokens in enumerate(n.tokens)
        if UNK in tokens
    ]
    pairs = [(" ".join(sources[index]), nbest[index].texts[k]) for index, k in with_unk]
    for pair, attention in _attention(trained, pairs).items():
        index, k = with_unk[pair]
        tokens = nbest[index].tokens[k]
        texts[index][k] = " ".join(
            replace_unknown(
                trained.tgt_vocab.tokens(tokens),
                [token == UNK for token in tokens],
                attention,
                sources[index],
                dictionary or {},
            )
        )
    return [dataclasses.replace(n, texts=tuple(t)) for n, t in zip(nbest, texts, strict=True)]


def _attention(trained: TrainedModel, pairs: Sequence[tuple[str, str]]) -> dict[int, np.ndarray]:
    """Returns the attention weights [T, S] of pairs, padding included, by their index."""
    if not pairs:
        return {}
    encoded = encode_pairs(pairs, trained.src_vocab, trained.tgt_vocab)
    # Few shapes for all lengths, because each is compiled and text may come line by line.
    by_shape: dict[tuple[int, int], list[int]] = {}
    for n, sides in enumerate(zip(encoded.src, encoded.tgt, strict=True)):
        src_len, tgt_len = (_width(len(ids)) for ids in sides)
        by_shape.setdefault((src_len, tgt_len), []).append(n)
    run, weights = aligner(trained.network), {}
    for (src_len, tgt_len), members in by_shape.items():
        for start in range(0, len(members), BATCH_MULTIPLE):
            batch = members[start : start + BATCH_MULTIPLE]
            rows = [*batch, *batch[:1] * (BATCH_MULTIPLE - len(batch))]
            src = np.stack([_padded(encoded.src[n], src_len) for n in rows])
            tgt = np.stack([_padded(encoded.tgt[n], tgt_len) for n in rows])
            for n, attention in zip(batch, run(trained.params, src, tgt), strict=False):
                weights[int(encoded.index[n])] = attention
    return weights


def _width(tokens: int) -> int:
    longest = SOURCE_LENGTHS[-1]
    return next((n for n in SOURCE_LENGTHS if n >= tokens), -(-tokens // longest) * longest)


def _padded(ids: np.ndarray, width: int) -> np.ndarray:
    return np.pad(ids, (0, width - len(ids)), constant_values=PAD)
