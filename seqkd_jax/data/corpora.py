"""Corpora by name, and corpora from the user's own files.

``multi30k`` holds the image captions of Elliott et al. (2016) and their translations, task 1, at
one commit of the public repository multi30k/dataset: non-commercial research and education only.
``grammar`` is drawn from a small grammar whose true distribution is known; see ``grammar``.
"""

import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from .. import console
from ..addresses import PathLike
from ..errors import UsageError
from ..files import sha256
from ..progress import Bar
from .lines import read_pairs
from .text import read_bytes, read_lines, words_of

Pairs = Sequence[tuple[str, str]]
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
# Corpora drawn from the grammar: the share of wrong words in the targets to train on.
GENERATED = {"grammar": 0.0, "noisy-grammar": 0.3}


@dataclass(frozen=True)
class Corpus:
    """Training, validation and test pairs: (source, target)."""

    name: str
    src: str  # source language
    tgt: str  # target language
    train: Pairs = field(repr=False)
    valid: Pairs = field(repr=False)
    test: Pairs = field(repr=False)
    tokenised: bool = False  # whether spaces already separate words and punctuation marks
    files: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)  # of each part
    # more source text, without translations: the teacher's are what students of Seq-KD learn from
    extra: Sequence[str] = field(default=(), repr=False)
    # how a teacher's hypotheses became the targets to train on (``distill``), if they are not human
    distilled: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def text(self) -> dict[str, Any]:
        """What the card of a model says of its training text."""
        text: dict[str, Any] = {"corpus": f"{self.name} {self.src}-{self.tgt}"}
        if "train" in self.files:
            text["files"] = " and ".join(path.rpartition("/")[2] for path in self.files["train"])
        return text | ({"distilled": dict(self.distilled)} if self.distilled else {})

    def where(self, part: Part) -> str:
        """Returns what messages call a part: its files, or the name of the corpus."""
        return " and ".join(self.files.get(part, [f"the {part} part of {self.name}"]))

    def require_shorter(self, max_len: int | None) -> None:
        """Refuses training text without a single pair of at most ``max_len`` tokens; None: never.

        A sentence has at least as many tokens as words, so this needs no vocabularies.

        Raises:
          UsageError: all training pairs have more words; the message names their files.
        """
        shortest = None
        for source, target in self.train:
            length = max(len(words_of(source)), len(words_of(target)) + 1)
            if max_len is None or length <= max_len:
                return
            shortest = length if shortest is None else min(shortest, length)
        if shortest is not None:
            raise UsageError(
                f"{self.where('train')}: all {len(self.train):,} pairs are longer than {max_len} "
                f"tokens; the shortest has {shortest}: raise --max-tokens (max_tokens), or "
                "give one sentence a line."
            )

    @functools.cached_property
    def digest(self) -> str:
        """The sha256 of all pairs in order."""
        sha = hashlib.sha256()
        for pairs in (self.train, self.valid, self.test):
            for source, target in pairs:
                sha.update(f"{source}\n{target}\n".encode())
            sha.update(b"\0")  # a byte that no line holds
        return sha.hexdigest()

    def __str__(self) -> str:
        sizes = " / ".join(f"{len(part):,}" for part in (self.train, self.valid, self.test))
        return f"{self.name} {self.src}-{self.tgt}: {sizes} pairs (train / valid / test)"


def load_corpus(name: str, pair: str = "en-de", form: Form = "tok") -> Corpus:
    """Loads a corpus by its name.

    Where the environment variable SEQKD_DATA names a folder, ``multi30k`` is read from its
    subfolder ``multi30k/task1/{raw,tok}/``, packed or not. Otherwise it is downloaded once into
    the user's cache. Either way the sha256 of every file is checked.

    ``grammar`` and ``noisy-grammar`` are drawn from ``data.grammar`` and differ in one thing: of
    the second, 30 % of the words in the targets to train on are wrong (``grammar.with_errors``).

    Args:
      name: ``"multi30k"``, ``"grammar"`` or ``"noisy-grammar"``.
      pair: languages, source first. For multi30k any two of en, de, fr, cs; ignored for the
        others.
      form: for multi30k, ``"tok"`` (lower-cased, normalised, tokenised: the form of the published
        scores) or ``"raw"``.

    Raises:
      UsageError: there is no such corpus, language or form, or a file is not the published one.
      FileNotFoundError: SEQKD_DATA is set and a file is missing.
      ConnectionError: the download failed.

    >>> print(load_corpus("grammar"))
    grammar source-target: 30,000 / 500 / 1,000 pairs (train / valid / test)
    """
    loaders: dict[str, Callable[[], Corpus]] = {
        "multi30k": lambda: multi30k(pair, form),
        **{known: functools.partial(_generated, known) for known in GENERATED},
    }
    if name not in loaders:
        raise UsageError(
            f"There is no corpus {name!r}; the named ones are {', '.join(loaders)}. For your own "
            "files give --train and --valid (corpus_from_files)."
        )
    return loaders[name]()


def corpus_from_files(
    train: Files,
    valid: Files,
    test: Files | None = None,
    *,
    name: str = "files",
    pair: str = "source-target",
) -> Corpus:
    """Makes a corpus from text files: each part is two parallel files, or one .tsv file.

    Args:
      train: (source file, target file), or one file with a tab between source and target.
      valid: the same.
      test: the same; None leaves ``Corpus.test`` empty.
      name: for reports.
      pair: languages, source first; the target language decides how BLEU tokenises text.

    Raises:
      FileNotFoundError: a file is missing.
      UsageError: ``read_pairs`` refuses a file, or ``pair`` is not two names.
    """
    src, tgt = languages(pair)
    parts = {"train": train, "valid": valid, "test": test}
    sides = {
        part: files if isinstance(files, tuple) else (files,)
        for part, files in parts.items()
        if files is not None
    }
    with Bar(desc="reading text", wait=2):
        read = {part: read_pairs(*files) for part, files in sides.items()}
    names = {part: tuple(map(str, files)) for part, files in sides.items()}
    known = words_of_sides(read["train"])
    for part in read.keys() - {"train"}:
        if seem_swapped(known, read[part]):
            console.warn(
                f"{' and '.join(names[part])}: the sources have words of the training text's "
                "targets, and the targets those of its sources; are the two files (or columns) "
                "swapped?"
            )
    return Corpus(name, src, tgt, read["train"], read["valid"], read.get("test", []), files=names)


def words_of_sides(pairs: Pairs) -> tuple[set[str], set[str]]:
    """Returns the words of the sources and those of the targets of the first 20,000 pairs."""
    known = set[str](), set[str]()
    for pair in itertools.islice(pairs, 20_000):
        for words, text in zip(known, pair, strict=True):
            words.update(words_of(text))
    return known


def seem_swapped(known: tuple[set[str], set[str]], pairs: Pairs) -> bool:
    """Returns whether the words of pairs are rather known from the other side of training pairs.

    It looks at the first 1,000 pairs; ``known`` comes from ``words_of_sides``.
    """
    same = swapped = 0
    for pair in itertools.islice(pairs, 1_000):
        for own, other, text in zip(known, known[::-1], pair, strict=True):
            same += sum(word in own for word in words_of(text))
            swapped += sum(word in other for word in words_of(text))
    return swapped > 2 * same


def languages(pair: str) -> tuple[str, str]:
    """Returns the languages of a pair such as ``en-de``; UsageError if it has another form."""
    sides = pair.split("-")
    if len(sides) != 2 or not all(sides):
        raise UsageError(f'pair={pair!r}: give two languages, source first, as in "en-de".')
    return sides[0], sides[1]


def multi30k(
    pair: str = "en-de",
    form: Form = "tok",
    *,
    url: str = MULTI30K_URL,
    digests: Mapping[str, str] | None = None,
) -> Corpus:
    """Loads Multi30k from the folder of SEQKD_DATA, or from the web; see ``load_corpus``.

    Args:
      pair: languages, source first: any two of en, de, fr, cs.
      form: ``"tok"`` or ``"raw"``.
      url: of the folder from which files are downloaded, with a slash at its end.
      digests: sha256 of each file by its name, as ``multi30k_sha256`` returns them; None: of the
        published files.

    Raises:
      UsageError: there is no such language or form, or a file has another sha256.
      FileNotFoundError: SEQKD_DATA is set and a file is missing.
      ConnectionError: the download failed.
    """
    src, tgt = languages(pair)
    if src == tgt or not {src, tgt} <= set(MULTI30K_LANGUAGES):
        known = ", ".join(MULTI30K_LANGUAGES)
        raise UsageError(f"pair={pair!r}: multi30k has {known}; give two different ones.")
    if form not in MULTI30K_SUFFIX:
        raise UsageError(f'form={form!r}: multi30k has "tok" and "raw".')

    known = multi30k_sha256() if digests is None else digests

    def read(split: str) -> Pairs:
        names = [f"{form}/{split}{MULTI30K_SUFFIX[form]}.{side}" for side in (src, tgt)]
        return list(zip(*(_multi30k_lines(name, url, known) for name in names), strict=True))

    train, valid, test = map(read, MULTI30K_SPLITS)
    return Corpus("multi30k", src, tgt, train, valid, test, tokenised=form == "tok")


def _multi30k_lines(name: str, url: str, known: Mapping[str, str]) -> list[str]:
    folder = os.environ.get("SEQKD_DATA")
    path = _local(Path(folder), name) if folder else _download(name, url, known)
    if hashlib.sha256(read_bytes(path)).hexdigest() != known[name]:
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


def _download(name: str, url: str, known: Mapping[str, str]) -> Path:
    import pooch  # imported lazily: only downloads need it

    served = f"{name}.gz" if f"{name}.gz" in known else name
    folder = Path(pooch.os_cache("seqkd_jax")) / "multi30k"
    try:
        # pooch sets the total; with none, the bar would count as no bar.
        with Bar(desc=f"downloading {served}", unit="byte", total=1) as bar:
            path = pooch.retrieve(
                url + served,
                known_hash=f"sha256:{known[served]}",
                fname=Path(served).name,
                path=folder,
                progressbar=cast(Any, bar),  # any bar will do, pooch's documentation says
            )
    except OSError as error:
        raise ConnectionError(
            f"{url}{served}: download failed ({error}). Fetch the files by other means into "
            "FOLDER/multi30k/task1/ and set SEQKD_DATA=FOLDER."
        ) from error
    return Path(path)


@functools.cache
def multi30k_sha256() -> dict[str, str]:
    """Returns the sha256 of each published file by its name; packed ones are also listed as .gz."""
    text = Path(__file__).with_name("multi30k.sha256").read_text(encoding="utf-8")
    return {name: digest for digest, name in map(str.split, text.splitlines())}


def _generated(name: str) -> Corpus:
    from .grammar import splits, with_errors

    parts = splits(GRAMMAR_SEED, GRAMMAR_TRAIN, GRAMMAR_VALID, GRAMMAR_TEST)
    train = with_errors(parts["train"], GENERATED[name])
    return Corpus(name, "source", "target", train, parts["valid"], parts["test"], tokenised=True)
