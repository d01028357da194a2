"""What several commands are given: text, vocabularies, how validation is scored."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..ranges import Checked, Count
from ..settings import Tokenizer

Files = tuple[Path, ...]  # source file and target file, or one .tsv file
Flat = tyro.conf.arg(name="")  # nested settings without a prefix of their own


@dataclass(frozen=True)
class Learning(Checked):
    """A command that trains and knows which options the user gave."""

    given: Annotated[tuple[str, ...], tyro.conf.Suppress] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Corpus(Checked):
    """What to train on: a named corpus, or any files of sentence pairs (plain or .gz)."""

    data: str | None = None
    """Name of a corpus: grammar, noisy-grammar (generated, no download) or multi30k."""
    pair: str | None = None
    """Source and target language, such as en-ja. The target language decides how BLEU tokenises.
    For multi30k, two of en, de, fr, cs (en-de if omitted)."""
    form: Literal["tok", "raw"] = "tok"
    """Form of multi30k: tokenised and in lower case (tok), or raw."""
    train: Files = ()
    """Training files: source and target with one sentence per line, or one .tsv file with both."""
    valid: Files = ()
    """Validation files, given in the same way."""


@dataclass(frozen=True)
class TestedCorpus(Corpus):
    """What to train and test on."""

    test: Files = ()
    """Test files, given in the same way; the validation files if omitted."""


@dataclass(frozen=True)
class Vocabularies(Checked):
    """Existing vocabularies to use instead of new ones."""

    vocab: Path | None = None
    """Vocabulary file for both sides: a SentencePiece .model, a .vocab.json, or a list of words."""
    src_vocab: Path | None = None
    """Vocabulary file for the source only, in one of these forms."""
    tgt_vocab: Path | None = None
    """Vocabulary file for the target only, in one of these forms."""


@dataclass(frozen=True)
class Validation(Checked):
    """How translations of the validation set are scored."""

    tokenize: Tokenizer = "auto"
    """sacreBLEU's tokeniser for validation; auto: by target language; none: already tokenised."""
    max_source: Count | None = 250
    """Validation cuts sources to this many tokens; None: never."""
