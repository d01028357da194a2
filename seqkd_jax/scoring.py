"""BLEU and chrF of sacreBLEU: made before the work begins, asked when it ends.

How text is cut into tokens is decided here alone, in one way for validation, evaluation and
tables; so is the case that it is compared in. Both show in the signatures.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest

from .data import Corpus
from .errors import UsageError

# By ISO 639-1 and 639-3 code. The first three are sacreBLEU's own choices; the others are written
# without spaces as well, and of its tokenisers only those of pieces know them.
OF_LANGUAGE = {
    **dict.fromkeys(("zh", "zho", "chi", "cmn", "yue"), "zh"),
    **dict.fromkeys(("ja", "jpn"), "ja-mecab"),
    **dict.fromkeys(("ko", "kor"), "ko-mecab"),
    **dict.fromkeys(("th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bo", "bod"), "flores200"),
}
NEEDS = {
    "ja-mecab": 'install "sacrebleu[ja]"',
    "ko-mecab": 'install "sacrebleu[ko]"',
    **dict.fromkeys(
        ("spm", "flores101", "flores200", "spBLEU-1K"),
        "make sure that its model can be downloaded (once)",
    ),
}


@dataclass(frozen=True)
class Difference:
    """System against baseline on one test set, by paired bootstrap resampling."""

    bleu: float  # system minus baseline
    p_value: float  # of the baseline being as good (Koehn 2004)
    signature: str


@dataclass(frozen=True)
class Scorer:
    """Corpus BLEU and chrF2, 0 to 100, as sacreBLEU computes them under the same signature.

    Raises:
      UsageError: there is no such tokeniser, or what it needs is not there.
    """

    tokenize: str = "13a"  # sacreBLEU's tokeniser; none for text that is tokenised
    lowercase: bool = False  # compare in lower case: for models that write nothing else

    def __post_init__(self) -> None:
        if self.tokenize not in BLEU.TOKENIZERS:
            known = ", ".join(BLEU.TOKENIZERS)
            raise UsageError(f"tokenize is {self.tokenize!r}: give one of {known}.")
        try:
            self._bleu  # noqa: B018
        except (ImportError, RuntimeError, OSError, AssertionError, SystemExit) as error:
            said = " ".join(str(error).split())
            need = NEEDS.get(self.tokenize, "install sacrebleu again")
            raise UsageError(
                f"sacreBLEU's tokeniser {self.tokenize} cannot be used here ({said}): {need}, "
                "or choose another with --tokenize; char compares characters and needs nothing "
                "else."
            ) from None

    @functools.cached_property
    def _bleu(self) -> BLEU:
        # ``force`` silences the advice to detokenise, which does not apply to tokenised corpora.
        return BLEU(tokenize=self.tokenize, lowercase=self.lowercase, force=True)

    @functools.cached_property
    def _chrf(self) -> CHRF:
        return CHRF(lowercase=self.lowercase)

    def bleu(self, outputs: Sequence[str], references: Sequence[str]) -> float:
        """Corpus BLEU of outputs against one reference each."""
        return self._bleu.corpus_score(outputs, [references]).score

    def chrf(self, outputs: Sequence[str], references: Sequence[str]) -> float:
        """Corpus chrF2 of outputs against one reference each."""
        return self._chrf.corpus_score(outputs, [references]).score

    @functools.cached_property
    def bleu_signature(self) -> str:
        """What sacreBLEU calls this BLEU."""
        self.bleu(["x"], ["x"])  # it counts references before it can say
        return str(self._bleu.get_signature())

    @functools.cached_property
    def chrf_signature(self) -> str:
        """What sacreBLEU calls this chrF."""
        self.chrf(["x"], ["x"])
        return str(self._chrf.get_signature())

    def compare(
        self,
        baseline: Sequence[str],
        system: Sequence[str],
        references: Sequence[str],
        samples: int = 1000,
    ) -> Difference:
        """Tests whether two systems' BLEU differ, with sacreBLEU's paired bootstrap.

        Source: Koehn 2004.
        """
        test = PairedTest(
            [("baseline", list(baseline)), ("system", list(system))],
            # A new one: the test keeps the references' n-grams in it.
            {"BLEU": BLEU(tokenize=self.tokenize, lowercase=self.lowercase, force=True)},
            [list(references)],
            test_type="bs",
            n_samples=samples,
        )
        signatures, scores = test()
        results: list[Any] = scores["BLEU"]
        difference = results[1].score - results[0].score
        return Difference(
            bleu=difference,
            # sacreBLEU counts resamples that differ by more than the systems do: of equal ones none
            p_value=results[1].p_value if difference else 1.0,
            signature=str(signatures["BLEU"]),
        )


def tokenizer(asked: str = "auto", language: str = "", tokenised: bool = False) -> str:
    """The name of sacreBLEU's tokeniser for text.

    Args:
      asked: a name, which is given back; or ``auto``.
      language: code of the target language, where it is known.
      tokenised: whether words and marks already stand between spaces.
    """
    if asked != "auto":
        return asked
    code = language.lower().partition("_")[0]
    return "none" if tokenised else OF_LANGUAGE.get(code, "13a")


def scorer_of(corpus: Corpus, tokenize: str = "auto", lowercase: bool = False) -> Scorer:
    """The scorer of a corpus' target side; raises UsageError as ``Scorer`` does.

    Args:
      corpus: its target language, and whether it is tokenised, are known.
      tokenize: of sacreBLEU, or ``auto`` to choose by the corpus.
      lowercase: whether the model's target vocabulary is in lower case.
    """
    return Scorer(tokenizer(tokenize, corpus.tgt, corpus.tokenised), lowercase)
