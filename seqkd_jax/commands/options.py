"""Checks of options: an option that would have no effect is refused before any work.

``given`` holds the options of the command line, without their leading dashes and with the names of
nested settings in front: ``embed``, ``teacher-size.embed``, ``parts.window``.
"""

import fnmatch
import json
from collections.abc import Collection, Iterable
from dataclasses import fields, replace
from typing import Any

from .. import arguments, console
from ..addresses import PathLike
from ..build import VOCABULARIES
from ..contrib.factors import FactoredVocabulary
from ..data import Corpus, Vocabulary, corpus_from_files, load_corpus, open_vocabulary
from ..data.corpora import GENERATED
from ..errors import UsageError
from ..recipes import NEEDS_TEACHER
from ..recipes.experiment import VOCABULARY
from ..settings import Plan, Size, Training
from .teach import how_distilled

SIZE = tuple(field.name for field in fields(Size)) + ("parts.*",)
TRAINING = tuple(field.name for field in fields(Training))
VALIDATION = tuple(field.name for field in fields(arguments.Validation))
CORPUS = ("data", "pair", "form", "train", "valid", "test")
# Options of an experiment, each with a part of the names of the rows that it applies to.
OF_ROWS = {
    "kd-beam": "seq-kd",
    "extra-source": "seq-kd",
    "filters.*": "filtered",
    "inter-beam": "seq-inter",
    "similarity": "seq-inter",
    "kd-weight": "word-kd",
    "on-policy.*": "on-policy",
}


def check_train(command: arguments.Train) -> None:
    """Refuses options of ``train`` that have no effect because of other options."""
    if command.teacher_cache and not command.teacher:
        raise UsageError(
            "--teacher-cache needs --teacher as well: the folder of the teacher that the cache "
            "was made with."
        )
    if not command.teacher:
        unused(command, "without --teacher", "kd-weight")
    if command.teacher_cache and command.kd_weight == 0:
        raise UsageError(
            "--teacher-cache has no effect with --kd-weight 0: leave one of the two out."
        )
    words = [*VOCABULARY, *(field.name for field in fields(arguments.Vocabularies))]
    if command.start:
        if command.size != Size():
            raise UsageError(
                "--start brings the shape of the model: leave out the options that set the shape "
                "(--hidden, ...)."
            )
        unused(command, "with --start, which brings the shape of the model", *SIZE)
        unused(command, "with --start, which brings its vocabularies", *words)
    if command.teacher:
        unused(command, "with --teacher, which brings its vocabularies", *words)
    if command.teacher and command.kd_weight == 1:
        unused(command, "when --kd-weight is 1", "label-smoothing")
    _check_shape(command, "", command.size)
    if not command.teacher:
        _check_spelt(command.vocabularies, "", command.size, command.vocabulary)
    _check_training(command, "", command.training)


def check_run(command: arguments.Run, rows: Iterable[str]) -> None:
    """Refuses options of ``run`` that none of its rows uses."""
    if command.seeds:
        unused(command, "with --seeds", "seed")
    else:
        unused(command, "without --seeds", "new-teachers")
    if not NEEDS_TEACHER & set(rows) and "teacher" not in rows:
        unused(command, "when no row has a teacher", "new-teachers")
    _check_rows(command, rows)


def check_tune(command: arguments.Tune) -> None:
    """Refuses options of ``tune`` that its row does not use."""
    _check_rows(command, [command.row])


def _check_rows(command: arguments.Run | arguments.Tune, rows: Iterable[str]) -> None:
    plan = command.plan
    if len(set(command.seeds)) < len(command.seeds):
        raise UsageError("--seeds: give each seed once.")
    unused(command, "here; it is for table3", "prune-ratios", "prune-by", "bits", "pruning.*")
    for option, part in OF_ROWS.items():
        if not any(part in row for row in rows):
            unused(command, f"when no row has {part} in its name", option)
    for name, size in ("teacher-size", plan.teacher_size), ("student-size", plan.student_size):
        _check_shape(command, f"{name}.", size)
        _check_spelt(command.vocabularies, f"{name}.", size, plan.vocabulary)
    for name in "teacher-training", "student-training", "fine-tuning":
        _check_training(command, f"{name}.", getattr(plan, name.replace("-", "_")))


def check_table3(command: arguments.Table3) -> None:
    """Refuses options of ``table3`` that only apply to rows of Table 1."""
    unused(
        command, "in table3", "inter-beam", "similarity", "kd-weight", "on-policy.*", "filters.*"
    )


def check_prune(command: arguments.Prune) -> None:
    """Refuses options of ``prune`` that have no effect because of other options."""
    _check_apart(command)
    _check_training(command, "", command.training)


def check_compress(command: arguments.Compress) -> None:
    """Refuses options for training the shared values if there is no text to train them on."""
    _check_apart(command)
    if not command.corpus.data and not command.corpus.train:
        unused(command, "without --data or --train", *CORPUS, *TRAINING, *VALIDATION, "seed")
    _check_training(command, "", command.training)


def _check_apart(command: arguments.Prune | arguments.Compress) -> None:
    if command.out.resolve() == command.model.resolve():
        raise UsageError(
            f"{command.out}: this is the folder of the model itself; choose another one for --out."
        )


def unused(command: arguments.Learning, where: str, *options: str) -> None:
    """Refuses those of the options that were given; ``options`` may be patterns."""
    for name in command.given:
        if _matches(name, options) or _matches(name.removeprefix("no-"), options):
            raise UsageError(f"--{name} has no effect {where}: leave it out.")


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern.replace("_", "-")) for pattern in patterns)


def _check_shape(command: arguments.Learning, prefix: str, size: Size) -> None:
    parts = size.parts
    conditions = {
        "window": (parts.alignment == "global", f"when --{prefix}parts.alignment is global"),
        "max-source": (
            parts.attention != "location",
            f"when --{prefix}parts.attention is not location",
        ),
        "join": (not size.bidirectional, f"without --{prefix}bidirectional"),
        "attends": (parts.attention == "none", f"when --{prefix}parts.attention is none"),
        "input-feeding": (
            parts.attention == "none" or parts.attends == "input",
            "when nothing attends above the decoder's layers",
        ),
    }
    for name, (idle, where) in conditions.items():
        if idle:
            unused(command, where, f"{prefix}parts.{name}")


def _check_spelt(files: arguments.Vocabularies, prefix: str, size: Size, vocabulary: str) -> None:
    given = files.tgt_vocab or files.vocab
    if size.parts.target_characters and not given and vocabulary != "words":
        raise UsageError(
            f"--{prefix}parts.target-characters spells whole words, but --vocabulary is "
            f"{vocabulary}: give --vocabulary words."
        )


def _check_training(command: arguments.Learning, prefix: str, training: Training) -> None:
    if training.optimizer != "adam":
        unused(command, f"when --{prefix}optimizer is {training.optimizer}", f"{prefix}warmup")


def choice_of(text: str) -> tuple[str, list[Any]]:
    """Reads ``setting=value,value``; values are JSON (numbers, true, null), or words."""
    name, equals, values = text.partition("=")
    if not equals or not name or not values:
        raise UsageError(
            f"--choices {text}: write setting=value,value, as in student-training.rate=1e-3,2e-3."
        )
    return name.replace("-", "_"), list(map(_value, values.split(",")))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def vocabularies_of(
    command: arguments.Learning, files: arguments.Vocabularies, plan: Plan
) -> tuple[Vocabulary | None, Vocabulary | None]:
    """Reads the vocabularies that a command was given; None for a side that needs a new one."""
    if files.vocab:
        unused(command, "with --vocab, which is for both sides", "src-vocab", "tgt-vocab")
    src, tgt = files.src_vocab or files.vocab, files.tgt_vocab or files.vocab
    if src and tgt:
        unused(command, "when both vocabularies are given", "vocabulary", "vocabulary-size")
    if src:
        unused(command, "when the vocabulary of the source is given", "features", "characters")
    if plan.shared_vocabulary and (src or tgt) and not files.vocab:
        raise UsageError(
            "--shared-vocabulary needs one vocabulary for both sides: give it with --vocab, or "
            "give --no-shared-vocabulary."
        )
    opened = {path: open_vocabulary(path, plan.lower, VOCABULARIES) for path in (src, tgt) if path}
    if tgt and isinstance(opened[tgt], FactoredVocabulary):
        raise UsageError(
            f"{tgt}: a vocabulary with features or characters is for the source side only."
        )
    return opened[src] if src else None, opened[tgt] if tgt else None


def corpus_of(command: arguments.Learning, given: arguments.Corpus) -> Corpus:
    """Reads the corpus that a command was given."""
    if given.data and given.train:
        raise UsageError("Give either --data NAME or --train SOURCE TARGET, not both.")
    if given.data:
        unused(command, f"with --data {given.data}, which has its own", "valid", "test")
        if given.data in GENERATED:
            unused(command, f"with --data {given.data}", "pair", "form")
        return load_corpus(given.data, given.pair or "en-de", given.form)
    if not given.train or not given.valid:
        what = "validate with" if given.train else "train on"
        missing = "--valid" if given.train else "--train"
        raise UsageError(
            f"There is no text to {what}: {missing} SOURCE TARGET is missing. Give --data grammar, "
            "or both --train and --valid."
        )
    unused(command, "with files of your own; it is for --data multi30k", "form")
    pair = given.pair or "source-target"
    train, valid = _files(given.train), _files(given.valid)
    if isinstance(given, arguments.TestedCorpus):
        if not given.test:
            console.warn("There is no --test: rows are tested on the validation text.")
        tested = _files(given.test or given.valid)
    else:
        tested = None
    corpus = corpus_from_files(train, valid, tested, pair=pair)
    return replace(corpus, distilled=how_distilled(given.train))


def _files(paths: arguments.Files) -> PathLike | tuple[PathLike, PathLike]:
    match paths:
        case (both,):
            return both
        case (source, target):
            return source, target
    names = " ".join(map(str, paths))
    raise UsageError(
        f"{names}: give two files, source and target, or one .tsv file with both sides."
    )
