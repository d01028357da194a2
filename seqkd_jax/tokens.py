"""Special ids, and how text becomes words and pieces. Floor 0: the standard library alone.

A line of text is words separated by ASCII whitespace. Pieces are those of SentencePiece models that
were trained by ``data.train_pieces``, which normalise nothing: ``bpe`` and ``unigram`` split text
exactly as SentencePiece does, which an exported model is read without.
"""

import functools
import heapq
import itertools
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence

PAD, UNK, BOS, EOS = 0, 1, 2, 3
SPECIAL = ("<blank>", "<unk>", "<s>", "</s>")  # by id
WORD = re.compile(r"[^ \t\n\r\v\f]+")
WORD_START = "\u2581"  # SentencePiece's mark at the start of a word
# SentencePiece treats some characters specially: U+2581 is its mark for a space, and its trainer
# skips lines with U+2585 and does not learn U+001F. Private characters stand in for them.
STAND_INS = {0x2581: 0xF2581, 0x2585: 0xF2585, 0x1F: 0xF001F}
ORIGINALS = {stand_in: character for character, stand_in in STAND_INS.items()}
UNK_WORD = re.compile(r"(?<![^ \t\n\r\v\f])<unk>(?![^ \t\n\r\v\f])")  # as a word of its own
UNK_PENALTY = 10.0  # SentencePiece's, below the least probable piece
CACHED_WORDS = 1 << 16  # words whose pieces are remembered

Segment = Callable[[str], Sequence[str]]  # of marked text: WORD_START for each space


def words_of(text: str) -> list[str]:
    """Returns the words of a text, which are separated by ASCII whitespace."""
    return WORD.findall(text)


def content_of(ids: Iterable[int]) -> list[int]:
    """Returns the ids up to EOS, without PAD and BOS."""
    until_end = itertools.takewhile(lambda n: n != EOS, map(int, ids))
    return [n for n in until_end if n not in (PAD, BOS)]


def normal_text(text: str) -> str:
    """Returns text as pieces are trained on and split: single spaces, and ``STAND_INS``."""
    return " ".join(words_of(text)).translate(STAND_INS)


def piece_ids(text: str, encode: Callable[[str], Iterable[int]]) -> list[int]:
    """Returns the ids of a text's pieces by ``encode``; the word ``<unk>`` is UNK."""
    runs = UNK_WORD.split(text) if SPECIAL[UNK] in text else [text]
    ids: list[int] = []
    for n, run in enumerate(runs):
        ids += [UNK] * (n > 0)
        ids += encode(run if len(runs) == 1 else run.strip(" "))
    return ids


def encoder(
    kind: str, tokens: Sequence[str], scores: Sequence[float], lower: bool
) -> Callable[[str], list[int]]:
    """Returns the ``encode`` of a vocabulary, from its content.

    Args:
      kind: ``words``, ``bpe`` or ``unigram``.
      tokens: the words or pieces by id, the special ones included.
      scores: of pieces, by id, as SentencePiece gives them; empty for words.
      lower: whether text is lower-cased.
    """
    ids = {token: n for n, token in enumerate(tokens) if n > EOS}
    if kind == "words":
        return lambda text: [ids.get(w, UNK) for w in words_of(text.lower() if lower else text)]
    known = {token: scores[n] for token, n in ids.items()}
    segment = {"bpe": bpe, "unigram": unigram}[kind](known)

    def encode_run(run: str) -> list[int]:
        found: list[int] = []
        for piece in segment(WORD_START + run.replace(" ", WORD_START)) if run else ():
            n = ids.get(piece, UNK)
            if n != UNK or found[-1:] != [UNK]:  # neighbouring unknown pieces are one
                found.append(n)
        return found

    return lambda text: piece_ids(normal_text(text.lower() if lower else text), encode_run)


def decoder(kind: str, tokens: Sequence[str]) -> Callable[[Iterable[int]], str]:
    """Returns the ``decode`` of a vocabulary, from its content; see ``encoder``."""
    if kind == "words":
        return lambda ids: " ".join(tokens[n] for n in content_of(ids))
    texts = [token.replace(WORD_START, " ") for token in tokens]
    texts[UNK] = f" {SPECIAL[UNK]} "

    def decode(ids: Iterable[int]) -> str:
        return " ".join(words_of("".join(texts[n] for n in content_of(ids)))).translate(ORIGINALS)

    return decode


def bpe(scores: Mapping[str, float]) -> Segment:
    """Returns SentencePiece's byte pair encoding: the best pair is merged until none is a piece.

    Source: Sennrich et al. 2016, section 3.2; SentencePiece's ``bpe_model.cc``.
    """

    def merged(text: str) -> tuple[str, ...]:
        symbols = list(text)
        before = list(range(-1, len(text) - 1))
        after = list(range(1, len(text) + 1))
        pairs: list[tuple[float, int, int, int]] = []

        def propose(left: int, right: int) -> None:
            if left >= 0 and right < len(symbols):
                pair = symbols[left] + symbols[right]
                if pair in scores:
                    heapq.heappush(pairs, (-scores[pair], left, right, len(pair)))

        for right in range(1, len(text)):
            propose(right - 1, right)
        while pairs:
            _, left, right, size = heapq.heappop(pairs)
            if not symbols[left] or not symbols[right]:
                continue
            if len(symbols[left]) + len(symbols[right]) != size:
                continue  # one of them has grown since
            symbols[left] += symbols[right]
            symbols[right] = ""
            after[left] = after[right]
            if after[right] < len(symbols):
                before[after[right]] = left
            propose(before[left], left)
            propose(left, after[left])
        return tuple(filter(None, symbols))

    if any(WORD_START in piece[1:] for piece in scores):
        return merged
    # No piece crosses the start of a word, so words can be split one by one.
    of_word = functools.lru_cache(CACHED_WORDS)(merged)

    def by_word(text: str) -> list[str]:
        parts = text.split(WORD_START)
        words = parts[:1] * bool(parts[0]) + [WORD_START + part for part in parts[1:]]
        return [piece for word in words for piece in of_word(word)]

    return by_word


def unigram(scores: Mapping[str, float]) -> Segment:
    """Returns SentencePiece's most probable pieces (Viterbi), in its own precision.

    Sums are rounded to float32 as they are there, so that ties are broken alike.

    Source: Kudo 2018, section 3.1; SentencePiece's ``unigram_model.cc``, ``EncodeOptimized``.
    """
    unknown = array("f", [min(scores.values(), default=0.0) - UNK_PENALTY])[0]
    # Every beginning of a piece, with the score of those that are pieces.
    known: dict[str, float | None] = {
        piece[:size]: None for piece in scores for size in range(1, len(piece))
    }
    known |= scores

    def most_probable(text: str) -> list[str]:
        size = len(text)
        best = array("f", bytes(4 * (size + 1)))  # score of the best pieces that end here
        starts = [-1] * (size + 1)  # where the last of them begins

        def reach(start: int, end: int, score: float) -> None:
            total, before, first = best[start] + score, best[end], starts[end] < 0
            if first or total > before:
                best[end] = total  # is rounded here
                if first or best[end] > before:
                    starts[end] = start

        for start in range(size):
            single = False
            for end in range(start + 1, size + 1):
                piece = text[start:end]
                if piece not in known:
                    break
                if (score := known[piece]) is None:
                    continue
                single |= end == start + 1
                reach(start, end, score)
            if not single:
                reach(start, start + 1, unknown)
        pieces, end = [], size
        while end:
            pieces.append(text[starts[end] : end])
            end = starts[end]
        return pieces[::-1]

    return most_probable
