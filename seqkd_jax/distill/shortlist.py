"""Shortlists: the output words that a sentence can need; the others are not computed.

A small model spends most of its time on the projection to the vocabulary. A lexical table says
which words the words of a source are translated by, and a few frequent words are always there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..base import EOS
from ..data import Encoded
from ..errors import UsageError

SMALLEST = 256  # words of a batch: from here sizes double, so that few programs are compiled


@dataclass(frozen=True)
class Shortlist:
    """Which target words each source word brings, and which are always allowed."""

    words: np.ndarray  # [source vocabulary, N] int32; where there are fewer, one of ``always``
    always: np.ndarray  # [M] int32, the special tokens among them
    tgt_vocab: int  # V

    def of_batch(self, src: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the words that a batch [B, S] can need, ids [C], and each sentence's own [B, C].

        A sentence is allowed only what its own words bring, so its translation does not depend
        on the others; C takes few different values. The special tokens come first.
        """
        src = src if src.ndim == 2 else src[..., 0]
        allowed = np.zeros((len(src), self.tgt_vocab), bool)
        allowed[:, self.always] = True
        allowed[np.arange(len(src))[:, None, None], self.words[src]] = True
        ids = np.flatnonzero(allowed.any(0)).astype(np.int32)
        size = SMALLEST
        while size < len(ids):
            size *= 2
        if size >= self.tgt_vocab:
            ids, size = np.arange(self.tgt_vocab, dtype=np.int32), self.tgt_vocab
        filling = size - len(ids)
        own = np.pad(allowed[:, ids], ((0, 0), (0, filling)))
        return np.pad(ids, (0, filling)), own


def fit_shortlist(
    pairs: Encoded,
    src_vocab: int,
    tgt_vocab: int,
    *,
    translations: int = 50,
    frequent: int = 100,
    iterations: int = 5,
    most_pairs: int = 50_000,
) -> Shortlist:
    """Fits a lexical table on sentence pairs, the text that the model was trained on at best.

    Args:
      pairs: encoded with the model's vocabularies.
      src_vocab: entries of the source vocabulary.
      tgt_vocab: V.
      translations: N, target words of each source word.
      frequent: most frequent target words, always allowed.
      iterations: of expectation maximisation.
      most_pairs: more are thinned out evenly.

    Raises UsageError if there are no pairs.

    Source: Jean et al. 2015, section 3.2 (candidate lists from an alignment model).
    """
    if not pairs.src:
        raise UsageError("A shortlist is fitted on sentence pairs, and there are none.")
    stride = -(-len(pairs.src) // most_pairs)
    src, tgt = pairs.src[::stride], pairs.tgt[::stride]
    of, to, table = lexical_table(src, tgt, iterations)
    counts = np.bincount(np.concatenate(tgt), minlength=tgt_vocab)
    common = np.argsort(-counts, kind="stable")[:frequent]
    always = np.union1d(np.arange(EOS + 1), common).astype(np.int32)

    order = np.lexsort((to, -table, of))
    of, to = of[order], to[order]
    starts = np.searchsorted(of, np.arange(src_vocab))
    rank = np.arange(len(of)) - starts[of]
    words = np.zeros((src_vocab, translations), np.int32)
    kept = rank < translations
    words[of[kept], rank[kept]] = to[kept]
    return Shortlist(words, always, tgt_vocab)


def lexical_table(
    src: Sequence[np.ndarray], tgt: Sequence[np.ndarray], iterations: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits p(target word | source word) with IBM model 1, without its empty word.

    Returns:
      Source words, target words and probabilities of all pairs of words that occur in a pair of
      sentences.

    Source: Brown et al. 1993, section 4.1.
    """
    of = np.concatenate([np.tile(s, len(t)) for s, t in zip(src, tgt, strict=True)])
    to = np.concatenate([np.repeat(t, len(s)) for s, t in zip(src, tgt, strict=True)])
    # Each target word of the text is one event, explained by all words of its source.
    lengths = np.concatenate([np.full(len(t), len(s)) for s, t in zip(src, tgt, strict=True)])
    event = np.repeat(np.arange(len(lengths)), lengths)
    width = int(to.max()) + 1
    keys, kind = np.unique(of.astype(np.int64) * width + to, return_inverse=True)
    of, to = keys // width, keys % width
    table = np.ones(len(keys))
    for _ in range(iterations):
        share = table[kind]
        share /= np.bincount(event, share)[event]
        counts = np.bincount(kind, share)
        table = counts / np.bincount(of, counts)[of]
    return of, to, table
