"""Pretrained word vectors: word2vec text files, or .npz."""

import contextlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..addresses import PathLike, as_path
from ..errors import UsageError
from ..files import UNPACKED_BYTES, UNPACKED_RATIO, open_reading
from .text import read_lines, words_of
from .vocab import WordVocabulary

NAMES = ("words", "vectors", "word_vecs")  # arrays that are read from an .npz


def read_vectors(path: PathLike, vocab: WordVocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Reads the vectors of a vocabulary's words.

    A text file has a word and its numbers on each line, and may start with a line of two numbers,
    the number of words and of dimensions, as word2vec writes it. An ``.npz`` holds ``words`` and
    ``vectors``, or ``word_vecs`` [V, E] with a row for each id of the vocabulary. If a word occurs
    twice, its last vector counts.

    Returns:
      Ids [N] of the words that have a vector, and their vectors [N, E], float32.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: a line or an array has the wrong shape, a number is not finite, the sizes in the
        header are wrong, or no word of the vocabulary has a vector.
    """
    path = as_path(path)
    vectors = _read_npz(path, vocab) if path.suffix == ".npz" else _read_text(path, vocab)
    if not vectors:
        raise UsageError(
            f"{path}: has none of the {vocab.size} words of the vocabulary; check that both are "
            "lower-cased, or neither."
        )
    ids = sorted(vectors)
    return np.array(ids, np.int32), np.array([vectors[n] for n in ids], np.float32)


Vectors = dict[int, np.ndarray]  # by id


def _read_npz(path: Path, vocab: WordVocabulary) -> Vectors:
    arrays = _arrays(path)
    if {"words", "vectors"} <= arrays.keys():
        words, vectors = arrays["words"], arrays["vectors"]
        if words.ndim != 1 or words.dtype.kind != "U":
            raise UsageError(f"{path}: words must be a list of text, but is {words.dtype}.")
        row_of: dict[str, int] = {word: n for n, word in enumerate(words.tolist())}
    elif "word_vecs" in arrays:
        vectors = arrays["word_vecs"]
        row_of = {word: n for n, word in enumerate(vocab.words)}
    else:
        raise UsageError(f"{path}: must hold the arrays words and vectors, or word_vecs.")
    rows = len(arrays["words"]) if "vectors" in arrays else vocab.size
    if vectors.ndim != 2 or len(vectors) != rows or not vectors.shape[1]:
        raise UsageError(
            f"{path}: has {rows} words, but vectors of shape {vectors.shape}; each word needs "
            "one row."
        )
    if vectors.dtype.kind not in "fiu":
        raise UsageError(f"{path}: vectors must be numbers, but are {vectors.dtype}.")
    vectors = _float32(vectors)
    if not np.isfinite(vectors).all():
        raise UsageError(f"{path}: vectors has a number that is not finite, or too large.")
    return {n: vectors[row_of[word]] for n, word in enumerate(vocab.words) if word in row_of}


@contextlib.contextmanager
def _damage_as_usage_error(path: Path) -> Iterator[None]:
    """Turns what zip and array readers raise for damaged files into UsageError."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file.") from None
    except UsageError:
        raise
    except (  # from zipfile, struct, and ``ast.literal_eval`` of an array's header
        *(ValueError, SyntaxError, KeyError, TypeError, IndexError, OverflowError, EOFError),
        *(zipfile.BadZipFile, zlib.error, struct.error, OSError),
        *(NotImplementedError, RuntimeError, MemoryError, RecursionError),
    ) as error:
        raise UsageError(f"{path}: not an .npz file, or a damaged one ({error}).") from None


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays named in ``NAMES``, each checked to be no larger than its data."""
    with (
        _damage_as_usage_error(path),
        open_reading(path) as file,
        zipfile.ZipFile(file) as packed,
    ):
        infos = {info.filename: info for info in packed.infolist()}
        members = [infos[f"{name}.npy"] for name in NAMES if f"{name}.npy" in infos]
        limit = max(UNPACKED_BYTES, UNPACKED_RATIO * path.stat().st_size)
        if sum(member.file_size for member in members) > limit:
            raise UsageError(
                f"{path}: unpacks to more than {limit:,} bytes; save it uncompressed (numpy.savez)."
            )
        arrays = {}
        for member in members:
            data = io.BytesIO(packed.read(member))
            _check_size(path, member, data)
            data.seek(0)
            array = np.lib.format.read_array(data, allow_pickle=False)
            arrays[member.filename.removesuffix(".npy")] = array
        return arrays


def _check_size(path: Path, member: zipfile.ZipInfo, file: io.BytesIO) -> None:
    """Refuses an array whose header promises more than follows: numpy would allocate it."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    count = 1
    for length in shape:
        count *= int(length)
    if not dtype.itemsize or count * dtype.itemsize != member.file_size - file.tell():
        raise UsageError(f"{path}: {member.filename} is damaged: its header says {shape} {dtype}.")


def _float32(numbers: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # overflow gives inf, which the caller refuses
        return numbers.astype(np.float32)


def _read_text(path: Path, vocab: WordVocabulary) -> Vectors:
    lines = read_lines(path)
    ids = {word: n for n, word in enumerate(vocab.words)}
    first = words_of(lines[0]) if lines else []
    header = len(first) == 2 and all(x.isdecimal() and len(x) < 20 for x in first)
    vectors: Vectors = {}
    width = None
    for number, line in enumerate(lines[header:], 1 + header):
        word, *digits = words_of(line) or [""]
        width = len(digits) if width is None else width
        if not digits or len(digits) != width:
            raise UsageError(f"{path}:{number}: does not have as many numbers as the first line.")
        if word not in ids:
            continue
        try:
            vector = _float32(np.array([float(x) for x in digits]))
        except ValueError:
            raise UsageError(f"{path}:{number}: is not a word followed by numbers.") from None
        if not np.isfinite(vector).all():
            raise UsageError(f"{path}:{number}: has a number that is not finite, or too large.")
        vectors[ids[word]] = vector
    declared = [int(x) for x in first] if header else [len(lines), width or 0]
    if declared != [len(lines) - header, width or 0]:
        raise UsageError(
            f"{path}: its first line promises {declared[0]} words of {declared[1]} numbers, but "
            f"there are {len(lines) - header} of {width or 0}; fetch it again."
        )
    return vectors
