"""Corpus BLEU and chrF by sacreBLEU. Floor 5.

Tokenisation and case are decided here only, in the same way for validation, evaluation and
tables; the signatures show both. A ``Scorer`` is created before work begins, so that a missing
tokeniser is noticed early.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest

from .data import Corpus
from .errors import UsageError

# By ISO 639-1 and 639-3 code. The first three are sacreBLEU's own choices; the others are also
# written without spaces, and only sacreBLEU's subword tokenisers support them.
TOKENIZER_OF_LANGUAGE = {
    **dict.fromkeys(("zh", "zho", "chi", "cmn", "yue"), "zh"),
    **dict.fromkeys(("ja", "jpn"), "ja-mecab"),
    **dict.fromkeys(("ko", "kor"), "ko-mecab"),
    **dict.fromkeys(("th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bo", "bod"), "flores200"),
}
RESAMPLING_SEED = 12345  # as in sacreBLEU
TOKENIZER_REMEDY = {
    "ja-mecab": 'install "sacrebleu[ja]"',
    "ko-mecab": 'install "sacrebleu[ko]"',
    **dict.fromkeys(
        ("spm", "flores101", "flores200", "spBLEU-1K"),
        "make sure that its model can be downloaded (once)",
    ),
}


@dataclass(frozen=True)
class Difference:
    """The difference of two systems on a test set, by paired bootstrap resampling."""

    bleu: float  # of the system minus that of the baseline; the mean over seeds
    p_value: float  # of the hypothesis that the baseline is as good (Koehn 2004)
    signature: str
    # (BLEU, p value) of each seed by itself, if there are several
    by_seed: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Scorer:
    """Corpus BLEU and chrF2, 0 to 100, as sacreBLEU computes them under the same signature.

    Raises:
      UsageError: there is no such tokeniser, or a package or model that it needs is missing.
    """

    tokenize: str = "13a"  # sacreBLEU's tokeniser; "none" for tokenised text
    lowercase: bool = False  # compare in lower case: for models that write lower case only

    def __post_init__(self) -> None:
        if self.tokenize not in BLEU.TOKENIZERS:
            known = ", ".join(BLEU.TOKENIZERS)
            raise UsageError(f"tokenize is {self.tokenize!r}: give one of {known}.")
        try:
            self._bleu  # noqa: B018
        except (ImportError, RuntimeError, OSError, AssertionError, SystemExit) as error:
            reason = " ".join(str(error).split())
            remedy = TOKENIZER_REMEDY.get(self.tokenize, "install sacrebleu again")
            raise UsageError(
                f"sacreBLEU's tokeniser {self.tokenize} cannot be used here ({reason}): {remedy}, "
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

    def words(self, line: str) -> list[str]:
        """Returns the words of a line that BLEU counts."""
        cased = line.lower() if self.lowercase else line
        return self._bleu.tokenizer(cased.rstrip()).split()

    def bleu(self, outputs: Sequence[str], references: Sequence[str]) -> float:
        """Returns the corpus BLEU of outputs against one reference each."""
        return self._bleu.corpus_score(outputs, [references]).score

    def chrf(self, outputs: Sequence[str], references: Sequence[str]) -> float:
        """Returns the corpus chrF2 of outputs against one reference each."""
        return self._chrf.corpus_score(outputs, [references]).score

    @functools.cached_property
    def bleu_signature(self) -> str:
        """SacreBLEU's signature of this BLEU."""
        self.bleu(["x"], ["x"])  # the signature exists only after references have been counted
        return str(self._bleu.get_signature())

    @functools.cached_property
    def chrf_signature(self) -> str:
        """SacreBLEU's signature of this chrF."""
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
            # A new BLEU, because the test caches the references' n-grams in it.
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
            # sacreBLEU counts resamples that differ by more than the systems do; for equal
            # systems there are none, and its p-value would be wrong.
            p_value=results[1].p_value if difference else 1.0,
            signature=str(signatures["BLEU"]),
        )

    def compare_seeds(
        self,
        baselines: Sequence[Sequence[str]],
        systems: Sequence[Sequence[str]],
        references: Sequence[str],
        samples: int = 1000,
    ) -> Difference:
        """Tests whether two systems that were trained with several seeds differ in mean BLEU.

        Each resample draws sentences and seeds, the same for both systems, with replacement: the
        p-value is small only if the difference holds for other sentences and for other seeds. With
        one seed this is ``compare``.

        Args:
          baselines: outputs of the baseline of each seed.
          systems: outputs of the system of each seed, in the same order.
          references: one for each sentence.
          samples: number of resamples.
        """
        each = [
            self.compare(baseline, system, references, samples)
            for baseline, system in zip(baselines, systems, strict=True)
        ]
        if len(each) == 1:
            return each[0]
        random = np.random.default_rng(RESAMPLING_SEED)
        count = len(references)
        chosen = random.multinomial(count, np.full(count, 1 / count), samples)
        seeds = random.multinomial(len(each), np.full(len(each), 1 / len(each)), samples)
        resampled = np.stack(
            [
                self._resampled(system, references, chosen)
                - self._resampled(baseline, references, chosen)
                for baseline, system in zip(baselines, systems, strict=True)
            ],
            axis=1,
        )
        differences = (resampled * seeds).sum(1) / len(each)
        mean = float(np.mean([d.bleu for d in each]))
        # As in sacreBLEU: how often the resamples are further from their mean than the mean from 0.
        further = int((np.abs(differences - differences.mean()) > abs(mean)).sum())
        return Difference(
            bleu=mean,
            p_value=(further + 1) / (samples + 1) if mean else 1.0,
            signature=each[0].signature,
            by_seed=tuple((d.bleu, d.p_value) for d in each),
        )

    def sentence_bleu(self, outputs: Sequence[str], references: Sequence[str]) -> list[float]:
        """Returns the BLEU of each output, 0 to 100: sacreBLEU's, with effective order."""
        return [score.score for score in self._sentence_scores(outputs, references)]

    def _sentence_scores(self, outputs: Sequence[str], references: Sequence[str]) -> list[Any]:
        of_sentence = BLEU(
            tokenize=self.tokenize, lowercase=self.lowercase, force=True, effective_order=True
        )
        return [
            of_sentence.sentence_score(output, [reference])
            for output, reference in zip(outputs, references, strict=True)
        ]

    def _resampled(
        self, outputs: Sequence[str], references: Sequence[str], chosen: np.ndarray
    ) -> np.ndarray:
        """Returns the BLEU of resamples, [samples]; ``chosen`` counts each sentence in each."""
        scores = self._sentence_scores(outputs, references)
        counts = np.array([[s.sys_len, s.ref_len, *s.counts, *s.totals] for s in scores], int)
        return np.array(
            [
                BLEU.compute_bleu(
                    correct=sums[2:6],
                    total=sums[6:],
                    sys_len=sums[0],
                    ref_len=sums[1],
                    smooth_method=self._bleu.smooth_method,
                ).score
                for sums in (chosen @ counts).tolist()
            ]
        )


def tokenizer(name: str = "auto", language: str = "", tokenised: bool = False) -> str:
    """Returns the name of sacreBLEU's tokeniser for text.

    Args:
      name: of a tokeniser, which is returned as it is; or ``auto``.
      language: code of the target language, if known.
      tokenised: whether spaces already separate words and punctuation marks.
    """
    if name != "auto":
        return name
    code = language.lower().partition("_")[0]
    return "none" if tokenised else TOKENIZER_OF_LANGUAGE.get(code, "13a")


def scorer_of(corpus: Corpus, tokenize: str = "auto", lowercase: bool = False) -> Scorer:
    """Returns the scorer for a corpus' target side; raises UsageError as ``Scorer`` does.

    Args:
      corpus: decides the tokeniser by its target language and by ``tokenised``.
      tokenize: name of sacreBLEU's tokeniser; ``auto`` to choose it by the corpus.
      lowercase: whether the model's target vocabulary is lower-cased.
    """
    return Scorer(tokenizer(tokenize, corpus.tgt, corpus.tokenised), lowercase)
