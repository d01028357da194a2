"""Word vectors from elsewhere: word2vec text files, or .npz."""

from pathlib import Path

import numpy as np

from ..errors import UsageError
from ..files import PathLike
from .text import read_lines
from .vocab import WordVocabulary


def read_vectors(path: PathLike, vocab: WordVocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Reads the vectors of a vocabulary's words.

    A text file has a word and its numbers on each line, and may start with a line of two numbers,
    as word2vec writes it. An ``.npz`` holds ``words`` and ``vectors``, or ``word_vecs`` [V, E] with
    a row for each id of the vocabulary.

    Returns:
      Ids [N] of the words that were found, and their vectors [N, E], float32.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: a line or an array has the wrong shape, or no word was found.
    """
    path = Path(path)
    words, vectors = _read_npz(path, vocab) if path.suffix == ".npz" else _read_text(path)
    place = {word: n for n, word in enumerate(words)}  # of a word that comes twice the last counts
    found = [(n, place[w]) for n, w in enumerate(vocab.words) if w in place]
    if not found:
        raise UsageError(f"{path}: holds none of the {vocab.size} words; lower-cased or not?")
    ids, rows = (np.array(side, np.int32) for side in zip(*found, strict=True))
    return ids, np.asarray(vectors, np.float32)[rows]


def _read_npz(path: Path, vocab: WordVocabulary) -> tuple[list[str], np.ndarray]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    with np.load(path, allow_pickle=False) as data:
        if {"words", "vectors"} <= set(data):
            words, vectors = data["words"].tolist(), data["vectors"]
        elif "word_vecs" in data:
            words, vectors = list(vocab.words), data["word_vecs"]
        else:
            raise UsageError(f"{path}: needs the arrays words and vectors, or word_vecs.")
    if vectors.ndim != 2 or len(vectors) != len(words):
        raise UsageError(f"{path}: {len(words)} words and vectors of shape {vectors.shape}.")
    return words, vectors


def _read_text(path: Path) -> tuple[list[str], list[list[float]]]:
    lines = [line.split() for line in read_lines(path)]
    header = bool(lines) and len(lines[0]) == 2 and all(x.isdecimal() for x in lines[0])
    words, vectors = [], []
    for number, line in enumerate(lines[header:], 1 + header):
        try:
            vectors.append([float(x) for x in line[1:]])
        except ValueError:
            raise UsageError(f"{path}:{number}: not a word and numbers.") from None
        if not line or len(vectors[-1]) != len(vectors[0]) or not vectors[-1]:
            raise UsageError(f"{path}:{number}: not as many numbers as the first line has.")
        words.append(line[0])
    return words, vectors
