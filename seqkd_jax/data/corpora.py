"""Corpora that have a name, and corpora from any files.

``multi30k`` is the image captions of Elliott et al. (2016) and its translations, task 1, at one
commit of the public repository multi30k/dataset: non-commercial research and education only.
``grammar`` is drawn from a small grammar whose true distribution is known; see ``grammar``.
"""

import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..errors import UsageError
from ..files import PathLike, sha256
from .text import read_bytes, read_lines, read_pairs, words_of

Pairs = list[tuple[str, str]]
Files = PathLike | tuple[PathLike, PathLike]  # one .tsv file, or source and target
Form = Literal["tok", "raw"]
Part = Literal["train", "valid", "test"]

MULTI30K_URL = (
    "https://raw.githubusercontent.com/multi30k/dataset/"
    "a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/"
)
MULTI30K_LANGUAGES = ("en", "de", "fr", "cs")
MULTI30K_SPLITS = ("train", "val", "test_2016_flickr")
MULTI30K_SUFFIX = {"tok": ".lc.norm.tok", "raw": ""}  # lower-cased, normalised, tokenised
GRAMMAR_SEED, GRAMMAR_TRAIN, GRAMMAR_VALID, GRAMMAR_TEST = 1, 30_000, 500, 1_000


@dataclass(frozen=True)
class Corpus:
    """Sentence pairs to train on, to choose by and to test with: lists of (source, target)."""

    name: str
    src: str  # language
    tgt: str
    train: Pairs = field(repr=False)
    valid: Pairs = field(repr=False)
    test: Pairs = field(repr=False)
    tokenised: bool = False  # words and punctuation marks already stand between spaces
    files: dict[str, str] = field(default_factory=dict, repr=False)  # that a part was read from

    def where(self, part: Part) -> str:
        """What messages call a part: the files it was read from, or the name of the corpus."""
        return self.files.get(part, f"the {part} part of {self.name}")

    def require_shorter(self, max_len: int) -> None:
        """Refuses text of which no pair can be within a limit of so many tokens.

        A sentence has at least as many tokens as words; vocabularies need not be made to see it.

        Raises:
          UsageError: all training pairs have more words; the message names their files.
        """
        longer = [max(len(words_of(s)), len(words_of(t)) + 1) for s, t in self.train]
        if longer and min(longer) > max_len:
            raise UsageError(
                f"{self.where('train')}: all {len(longer):,} pairs are longer than {max_len} "
                f"tokens; the shortest has {min(longer)}: raise --max-tokens (max_tokens), or "
                "give one sentence a line."
            )

    @functools.cached_property
    def digest(self) -> str:
        """The sha256 of all pairs in order."""
        sha = hashlib.sha256()
        for pairs in (self.train, self.valid, self.test):
            for source, target in pairs:
                sha.update(f"{source}\n{target}\n".encode())
            sha.update(b"\0")  # in no line
        return sha.hexdigest()

    def __str__(self) -> str:
        sizes = " / ".join(f"{len(part):,}" for part in (self.train, self.valid, self.test))
        return f"{self.name} {self.src}-{self.tgt}: {sizes} pairs (train / valid / test)"


def load_corpus(name: str, pair: str = "en-de", form: Form = "tok") -> Corpus:
    """Loads a corpus by its name.

    Where the environment variable SEQKD_DATA names a folder, ``multi30k`` is read from
    ``multi30k/task1/{raw,tok}/`` in it, packed or not. Otherwise it is downloaded once into the
    user's cache. Either way every file's sha256 is checked.

    Args:
      name: ``"multi30k"`` or ``"grammar"``.
      pair: languages, source first; of multi30k any two of en, de, fr, cs. The grammar has no
        other than its own.
      form: of multi30k, ``"tok"`` (lower-cased, normalised, tokenised: the form of the published
        scores) or ``"raw"``.

    Raises:
      UsageError: no such corpus, language or form; or a file is not the published one.
      FileNotFoundError: SEQKD_DATA is set and a file is not there.
      ConnectionError: the download failed.
    """
    known: dict[str, Callable[[], Corpus]] = {
        "multi30k": lambda: _multi30k(pair, form),
        "grammar": _grammar,
    }
    if name not in known:
        raise UsageError(
            f"There is no corpus {name!r}; the named ones are {', '.join(known)}. For your own "
            "files give --train and --valid (corpus_from_files)."
        )
    return known[name]()


def corpus_from_files(
    train: Files,
    valid: Files,
    test: Files | None = None,
    *,
    name: str = "files",
    pair: str = "source-target",
) -> Corpus:
    """Makes a corpus of text files: each part two parallel files, or one .tsv file.

    Args:
      train: (source file, target file), or a file with a tab between source and target.
      valid: the same.
      test: the same; None leaves ``Corpus.test`` empty.
      name: for reports.
      pair: languages, source first; that of the target decides how BLEU cuts text into tokens.

    Raises:
      FileNotFoundError: a file is missing.
      UsageError: ``read_pairs`` refuses a file, as one without text, or ``pair`` is not two names.
    """
    src, tgt = languages(pair)
    given = {"train": train, "valid": valid, "test": test}
    sides = {
        part: files if isinstance(files, tuple) else (files,)
        for part, files in given.items()
        if files is not None
    }
    read = {part: read_pairs(*files) for part, files in sides.items()}
    names = {part: " and ".join(map(os.fspath, files)) for part, files in sides.items()}
    return Corpus(name, src, tgt, read["train"], read["valid"], read.get("test", []), files=names)


def languages(pair: str) -> tuple[str, str]:
    """The two languages of a pair such as ``en-de``, source first; raises UsageError for others."""
    sides = pair.split("-")
    if len(sides) != 2 or not all(sides):
        raise UsageError(f'pair={pair!r}: give two languages, source first, as in "en-de".')
    return sides[0], sides[1]


def _multi30k(pair: str, form: Form) -> Corpus:
    src, tgt = languages(pair)
    if src == tgt or not {src, tgt} <= set(MULTI30K_LANGUAGES):
        known = ", ".join(MULTI30K_LANGUAGES)
        raise UsageError(f"pair={pair!r}: multi30k has {known}; give two different ones.")
    if form not in MULTI30K_SUFFIX:
        raise UsageError(f'form={form!r}: multi30k has "tok" and "raw".')

    def read(split: str) -> Pairs:
        sides = [_multi30k_lines(f"{form}/{split}{MULTI30K_SUFFIX[form]}.{s}") for s in (src, tgt)]
        return list(zip(*sides, strict=True))

    train, valid, test = map(read, MULTI30K_SPLITS)
    return Corpus("multi30k", src, tgt, train, valid, test, tokenised=form == "tok")


def _multi30k_lines(name: str) -> list[str]:
    folder = os.environ.get("SEQKD_DATA")
    path = _local(Path(folder), name) if folder else _download(name)
    if hashlib.sha256(read_bytes(path)).hexdigest() != _known_sha256()[name]:
        raise UsageError(
            f"{path}: not the published file (its sha256 is {sha256(path)}); fetch it again."
        )
    return read_lines(path)


def _local(folder: Path, name: str) -> Path:
    plain = folder / "multi30k" / "task1" / name
    for path in (plain, plain.with_name(f"{plain.name}.gz")):
        if path.exists():
            return path
    raise FileNotFoundError(
        f"{plain}: no such file, nor one ending in .gz. The environment variable SEQKD_DATA "
        "names this folder; unset it to download the corpus."
    )


def _download(name: str) -> Path:
    import pooch  # only who downloads pays for it

    served = f"{name}.gz" if f"{name}.gz" in _known_sha256() else name
    folder = Path(pooch.os_cache("seqkd_jax")) / "multi30k"
    url = MULTI30K_URL + served
    try:
        path = pooch.retrieve(
            url,
            known_hash=f"sha256:{_known_sha256()[served]}",
            fname=Path(served).name,
            path=folder,
            progressbar=True,
        )
    except OSError as error:
        raise ConnectionError(
            f"{url}: download failed ({error}). Fetch the files by other means into "
            "FOLDER/multi30k/task1/ and set SEQKD_DATA=FOLDER."
        ) from error
    return Path(path)


@functools.cache
def _known_sha256() -> dict[str, str]:
    """The sha256 of each file: of those served packed, packed (name ends in .gz) and unpacked."""
    text = Path(__file__).with_name("multi30k.sha256").read_text(encoding="utf-8")
    return {name: digest for digest, name in map(str.split, text.splitlines())}


def _grammar() -> Corpus:
    from .grammar import splits

    parts = splits(GRAMMAR_SEED, GRAMMAR_TRAIN, GRAMMAR_VALID, GRAMMAR_TEST)
    train, valid, test = (parts[name] for name in ("train", "valid", "test"))
    return Corpus("grammar", "source", "target", train, valid, test, tokenised=True)
