"""Words that the target vocabulary does not have: taken over from the source, or translated.

Where a model says ``<unk>``, the source word that it attended to most is put there, or what a
dictionary has for that word (Luong et al. 2015, section 4; Jean et al. 2015, section 3.3).
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from ..base import PAD, UNK
from ..data import encode_pairs
from ..data.batches import ROWS, SOURCE_LENGTHS
from ..data.text import read_lines, words_of
from ..data.vocab import WordVocabulary
from ..errors import UsageError, quoted
from ..models.attention_lstm import AttentionLSTMParams, Config
from ..models.inspection import alignments
from ..plan import GREEDY
from ..train.model_folder import Trained
from ..train.parallel import pmap_rows
from .nbest import NBest

SEPARATOR = "|||"


def replace_unknown(
    words: Sequence[str],
    unknown: Sequence[bool],
    attention: np.ndarray,
    source: Sequence[str],
    dictionary: Mapping[str, str],
) -> list[str]:
    """Puts a word in the place of each unknown one; pure.

    Args:
      words: of a translation, [T].
      unknown: which of them to replace, [T].
      attention: weights [T, S] while each word was predicted.
      source: words [S].
      dictionary: translations of source words; those that it lacks are taken over as they are.
    """
    best = np.asarray(attention)[: len(words), : len(source)].argmax(1)
    attended: list[str] = [source[int(s)] for s in best]
    return [
        dictionary.get(there, there) if replace else word
        for word, replace, there in zip(words, unknown, attended, strict=True)
    ]


def read_dictionary(path: str | Path) -> dict[str, str]:
    """Reads lines ``source word|||its translation``, as seq2seq-attn's ``srctarg_dict``.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: a line has another form, or a word is there twice; the message names the line.
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


def check_replaceable(trained: Trained) -> None:
    """Raises UsageError unless the model says ``<unk>`` for words and has attention to see."""
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
    trained: Trained,
    lines: Sequence[str],
    nbest: Sequence[NBest],
    dictionary: Mapping[str, str] | None = None,
    max_source: int | None = GREEDY.max_source,
) -> list[NBest]:
    """Replaces the unknown words of translations; scores and tokens stay those of the model.

    Args:
      trained: the attention LSTM that has made them, with vocabularies of words.
      lines: the sources.
      nbest: their translations, with tokens.
      dictionary: see ``replace_unknown``; None for an empty one.
      max_source: where the search cut the sources.

    Raises:
      UsageError: see ``check_replaceable``.
    """
    check_replaceable(trained)
    assert isinstance(trained.src_vocab, WordVocabulary)
    sources = [trained.src_vocab.split(line)[:max_source] for line in lines]
    texts = [list(n.texts) for n in nbest]
    places = [
        (number, k)
        for number, n in enumerate(nbest)
        for k, tokens in enumerate(n.tokens)
        if UNK in tokens
    ]
    pairs = [(" ".join(sources[number]), nbest[number].texts[k]) for number, k in places]
    for place, attention in _attention(trained, pairs).items():
        number, k = places[place]
        tokens = nbest[number].tokens[k]
        texts[number][k] = " ".join(
            replace_unknown(
                trained.tgt_vocab.tokens(tokens),
                [token == UNK for token in tokens],
                attention,
                sources[number],
                dictionary or {},
            )
        )
    return [dataclasses.replace(n, texts=tuple(t)) for n, t in zip(nbest, texts, strict=True)]


def _attention(trained: Trained, pairs: Sequence[tuple[str, str]]) -> dict[int, np.ndarray]:
    """The attention weights [T, S] of pairs, padding included, by their place."""
    if not pairs:
        return {}
    encoded = encode_pairs(pairs, trained.src_vocab, trained.tgt_vocab)
    # Few shapes whatever the lengths are, for each is compiled and text may come line by line.
    shapes: dict[tuple[int, int], list[int]] = {}
    for place, sides in enumerate(zip(encoded.src, encoded.tgt, strict=True)):
        source, target = (_width(len(ids)) for ids in sides)
        shapes.setdefault((source, target), []).append(place)
    run, weights = _aligner(trained.config), {}
    for (source, target), places in shapes.items():
        for cut in range(0, len(places), ROWS):
            some = places[cut : cut + ROWS]
            rows = [*some, *some[:1] * (ROWS - len(some))]
            src = np.stack([_padded(encoded.src[n], source) for n in rows])
            tgt = np.stack([_padded(encoded.tgt[n], target) for n in rows])
            for place, one in zip(some, run(trained.params, src, tgt), strict=False):
                weights[int(encoded.index[place])] = one
    return weights


def _width(tokens: int) -> int:
    longest = SOURCE_LENGTHS[-1]
    return next((n for n in SOURCE_LENGTHS if n >= tokens), -(-tokens // longest) * longest)


def _padded(ids: np.ndarray, width: int) -> np.ndarray:
    return np.pad(ids, (0, width - len(ids)), constant_values=PAD)


@functools.lru_cache(maxsize=8)
def _aligner(config: Config) -> Callable[..., np.ndarray]:
    return pmap_rows(jax.vmap(functools.partial(alignments, config), (None, 0, 0)))
