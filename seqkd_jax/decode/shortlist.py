"""Shortlists: the output words that a sentence may need; logits of other words are not computed.

A small model spends most of its time on the projection to the vocabulary. A shortlist holds the
likely translations of a source's words, from a lexical table, and a few frequent words.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..base import EOS
from ..data import Encoded
from ..errors import UsageError
from ..progress import Bar


@dataclass(frozen=True)
class Shortlist:
    """The target words that each source word allows, and those that are always allowed."""

    words: np.ndarray  # [source vocabulary, N] int32, filled up with an id of ``always``
    always: np.ndarray  # [M] int32, special tokens included
    tgt_vocab: int  # V
    min_size: int = 256  # C at least; larger sizes double it, so that few programs are compiled

    def of_batch(self, src: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the words of a batch [B, S] as ids [C], and which each sentence may use [B, C].

        A sentence may use only what its own words allow, so its translation does not depend on
        the rest of the batch. C takes few different values. The special tokens come first.
        """
        src = src if src.ndim == 2 else src[..., 0]
        allowed = np.zeros((len(src), self.tgt_vocab), bool)
        allowed[:, self.always] = True
        allowed[np.arange(len(src))[:, None, None], self.words[src]] = True
        ids = np.flatnonzero(allowed.any(0)).astype(np.int32)
        size = self.min_size
        while size < len(ids):
            size *= 2
        if size >= self.tgt_vocab:
            ids, size = np.arange(self.tgt_vocab, dtype=np.int32), self.tgt_vocab
        padding = size - len(ids)
        own = np.pad(allowed[:, ids], ((0, 0), (0, padding)))
        return np.pad(ids, (0, padding)), own


def fit_shortlist(
    pairs: Encoded,
    src_vocab: int,
    tgt_vocab: int,
    *,
    translations: int = 50,
    frequent: int = 100,
    iterations: int = 5,
    max_pairs: int = 50_000,
) -> Shortlist:
    """Fits a shortlist on sentence pairs, ideally those that the model was trained on.

    Args:
      pairs: encoded with the model's vocabularies.
      src_vocab: size of the source vocabulary.
      tgt_vocab: V.
      translations: N, target words of each source word.
      frequent: number of most frequent target words that are always allowed.
      iterations: of expectation maximisation.
      max_pairs: larger corpora are subsampled evenly.

    Raises UsageError if there are no pairs.

    Source: Jean et al. 2015, section 3.2 (candidate lists from an alignment model).
    """
    if not pairs.src:
        raise UsageError("A shortlist is fitted on sentence pairs, and there are none.")
    stride = -(-len(pairs.src) // max_pairs)
    src, tgt = pairs.src[::stride], pairs.tgt[::stride]
    src_words, tgt_words, table = lexical_table(src, tgt, iterations)
    counts = np.bincount(np.concatenate(tgt), minlength=tgt_vocab)
    common = np.argsort(-counts, kind="stable")[:frequent]
    always = np.union1d(np.arange(EOS + 1), common).astype(np.int32)

    order = np.lexsort((tgt_words, -table, src_words))
    src_words, tgt_words = src_words[order], tgt_words[order]
    starts = np.searchsorted(src_words, np.arange(src_vocab))
    rank = np.arange(len(src_words)) - starts[src_words]
    words = np.zeros((src_vocab, translations), np.int32)
    kept = rank < translations
    words[src_words[kept], rank[kept]] = tgt_words[kept]
    return Shortlist(words, always, tgt_vocab)


def lexical_table(
    src: Sequence[np.ndarray], tgt: Sequence[np.ndarray], iterations: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits p(target word | source word) with IBM model 1, without its empty word.

    Returns:
      Source words, target words and probabilities of all word pairs that occur in some sentence
      pair.

    Source: Brown et al. 1993, section 4.1.
    """
    src_words = np.concatenate([np.tile(s, len(t)) for s, t in zip(src, tgt, strict=True)])
    tgt_words = np.concatenate([np.repeat(t, len(s)) for s, t in zip(src, tgt, strict=True)])
    # Each occurrence of a target word is one event, explained by all words of its source.
    lengths = np.concatenate([np.full(len(t), len(s)) for s, t in zip(src, tgt, strict=True)])
    event = np.repeat(np.arange(len(lengths)), lengths)
    width = int(tgt_words.max()) + 1
    keys, entry = np.unique(src_words.astype(np.int64) * width + tgt_words, return_inverse=True)
    src_words, tgt_words = keys // width, keys % width
    table = np.ones(len(keys))
    for _ in Bar(range(iterations), desc="aligning words", unit="iteration", wait=2):
        posterior = table[entry]
        posterior /= np.bincount(event, posterior)[event]
        counts = np.bincount(entry, posterior)
        table = counts / np.bincount(src_words, counts)[src_words]
    return src_words, tgt_words, table
