"""An experiment: one corpus, one plan and a folder. Floor 8.

Every stage (a trained model, the n-best lists of one beam) has a folder of its own within the
experiment's folder and is run once: a later call, or a later start, finds what has been made.
"""

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .. import console
from ..addresses import PathLike, as_path
from ..build import VOCABULARIES
from ..contrib.characters import CHARACTERS
from ..contrib.factors import build_factored
from ..data import (
    Corpus,
    Vocabulary,
    build_words,
    encode_pairs,
    load_corpus,
    load_vocabulary,
    pairs_digest,
    train_pieces,
)
from ..data.encode import folder_for
from ..data.lines import sources_of, targets_of
from ..errors import UsageError, counted, quoted
from ..files import check_folder, make_folder
from ..model_folder import require_settings
from ..processes import first_in_turn, is_first
from ..progress import Bar
from ..settings import PLANS, Plan
from ..train.metrics import OnRecord
from ..trained import TrainedModel
from .amount import tokens_of

Pairs = Sequence[tuple[str, str]]
# Settings of a plan that decide what the vocabularies are.
VOCABULARY = (
    "vocabulary",
    "vocabulary_size",
    "shared_vocabulary",
    "features",
    "characters",
    "lower",
)
# Settings of what an experiment shares with its ``base``.
SHARED = (
    *VOCABULARY,
    "teacher_size",
    "teacher_training",
    "teachers",
    "kd_beam",
    "inter_beam",
    "similarity",
    "max_source",
)


@dataclass(frozen=True)
class Experiment:
    """One corpus, one plan, one folder."""

    folder: Path
    corpus: Corpus
    plan: Plan = field(default_factory=Plan)
    # source and target vocabulary to use instead of new ones
    given: tuple[Vocabulary | None, Vocabulary | None] = (None, None)
    # experiment whose vocabularies, teacher and n-best lists this one shares
    base: "Experiment | None" = None
    # is called with each record of each training's metrics.jsonl, and its folder as ``run``
    log: OnRecord | None = None
    # the teacher, if it has been read already; None: each stage that needs it reads it
    loaded_teacher: TrainedModel | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Raises UsageError if this experiment cannot share what belongs to ``base``."""
        check_folder(self.folder)
        for name in SHARED if self.base else ():
            own, shared = getattr(self.plan, name), getattr(self.teaching.plan, name)
            if own != shared:
                raise UsageError(
                    f"{name} is {quoted(own)}, but it is {quoted(shared)} in the experiment whose "
                    "teacher, n-best lists and vocabularies are to be shared."
                )
        pairs, others = self.corpus.train, self.teaching.corpus.train
        if pairs is not others and pairs_digest(pairs) != pairs_digest(others):
            raise UsageError("An experiment shares a teacher only with those of the same corpus.")

    @functools.cached_property
    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """The source and target vocabulary of every model of the experiment.

        Raises UsageError if the vocabularies in the folder were made from other text or with other
        settings.
        """
        if self.base:
            return self.base.vocabularies
        folder = self.folder / "vocabulary"
        paths = [folder / f"{side}.vocab.json" for side in ("src", "tgt")]
        made_of = {name: getattr(self.plan, name) for name in VOCABULARY}
        made_of |= {"text": pairs_digest(self.corpus.train)}
        made_of |= {"given": [vocab and vocab.digest for vocab in self.given]}
        with first_in_turn():
            if not (folder / "made_of.json").exists():  # written last
                with Bar(desc="making vocabularies", wait=2):
                    vocabularies = self._new_vocabularies()
                make_folder(folder)
                for path, vocab in zip(paths, vocabularies, strict=True):
                    vocab.save(path)
            require_settings(folder / "made_of.json", made_of)
        src, tgt = (load_vocabulary(path, VOCABULARIES) for path in paths)
        return src, tgt

    @functools.cached_property
    def tokens(self) -> int:
        """The size of the training text, by which settings that are left open are chosen."""
        pairs, folder = self.corpus.train, self.folder / "encoded"
        return tokens_of(encode_pairs(pairs, *self.vocabularies, folder=folder_for(pairs, folder)))

    @property
    def teaching(self) -> "Experiment":
        """The experiment that the teacher and its n-best lists belong to; mostly this one."""
        return self.base or self

    def with_seed(self, seed: int, new_teacher: bool = False) -> "Experiment":
        """Returns the same experiment with another seed, in the folder ``seed-N`` of this one.

        Args:
          seed: of parameters, dropout and data order.
          new_teacher: train a teacher with this seed, too. Otherwise the students of all seeds
            learn from the same teacher.
        """
        if seed == self.plan.seed:
            return self
        return replace(
            self,
            folder=self.folder / f"seed-{seed}",
            plan=replace(self.plan, seed=seed),
            base=None if new_teacher else self,
            loaded_teacher=None,
        )

    def _new_vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        plan, (given_src, given_tgt) = self.plan, self.given
        if given_src and given_tgt:
            return given_src, given_tgt
        if plan.shared_vocabulary and (given_src or given_tgt):
            raise UsageError(
                "shared_vocabulary is True: give the vocabularies of both sides, or of neither."
            )

        def make(lines: Iterable[str]) -> Vocabulary:
            if plan.vocabulary == "words":
                return build_words(lines, size=plan.vocabulary_size, lower=plan.lower)
            if plan.vocabulary_size is None:
                raise UsageError(
                    f"vocabulary_size is None (all words), but vocabulary is {plan.vocabulary}: "
                    "give the number of pieces (--vocabulary-size)."
                )
            return train_pieces(lines, plan.vocabulary_size, kind=plan.vocabulary, lower=plan.lower)

        pairs, size = len(self.corpus.train), plan.vocabulary_size or 0
        fewer = max(200, pairs // 200 * 100)
        if plan.vocabulary != "words" and size > max(pairs, fewer) and is_first():
            console.warn(
                f"{counted(pairs, 'pair')} to train on are few for a vocabulary of {size:,} "
                f"pieces, most of which are hardly ever seen: --vocabulary-size {fewer}, say, is "
                "learnt sooner."
            )
        sides = sources_of(self.corpus.train), targets_of(self.corpus.train)
        if plan.features or plan.characters:
            if plan.vocabulary != "words" or plan.shared_vocabulary:
                raise UsageError(
                    "features and characters need a vocabulary of words for each side: give "
                    "--vocabulary words and --no-shared-vocabulary."
                )
            letters = CHARACTERS if plan.characters else 0
            size, lower = plan.vocabulary_size, plan.lower
            src = given_src or build_factored(sides[0], size, characters=letters, lower=lower)
            return src, given_tgt or make(sides[1])
        if plan.shared_vocabulary:
            shared = make(itertools.chain(*sides))
            return shared, shared
        return given_src or make(sides[0]), given_tgt or make(sides[1])


def experiment(
    corpus: Corpus | str,
    folder: PathLike,
    plan: Plan | None = None,
    pair: str | None = None,
    log: OnRecord | None = None,
) -> Experiment:
    """Opens an experiment.

    Args:
      corpus: a corpus, or the name of one.
      folder: folder of the experiment.
      plan: settings; if omitted, those that suit the named corpus (``PLANS``).
      pair: languages of ``multi30k``; en-de if omitted.
      log: is called with each record of each training's ``metrics.jsonl``, with the training's
        folder as ``run``; for TensorBoard, Weights & Biases and the like.

    Raises:
      UsageError: ``pair`` is given with a corpus that has its own languages.
    """
    if pair is not None and corpus != "multi30k":
        raise UsageError(
            f"pair is {pair!r}, but only multi30k has languages to choose from: leave pair out."
        )
    if isinstance(corpus, str):
        plan = plan or PLANS.get(corpus, Plan())
        corpus = load_corpus(corpus, pair or "en-de")
    return Experiment(as_path(folder), corpus, plan or Plan(), log=log)
