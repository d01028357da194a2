"""Options that a command would not obey are refused, before any work.

``given`` holds the options that stood on the command line, without dashes and with the names of
nested settings in front: ``embed``, ``teacher.embed``, ``parts.window``.
"""

import fnmatch
from collections.abc import Collection, Iterable
from dataclasses import fields

from .. import arguments
from ..data import Corpus, Vocabulary, corpus_from_files, load_corpus, open_vocabulary
from ..data.inputs import InputVocabulary
from ..errors import UsageError
from ..files import PathLike
from ..plan import Plan, Size, Training
from ..recipes.stages import VOCABULARY
from ..train.model_folder import Trained

SIZE = tuple(field.name for field in fields(Size)) + ("parts.*",)
TRAINING = tuple(field.name for field in fields(Training))
VALIDATION = tuple(field.name for field in fields(arguments.Validation))
CORPUS = ("data", "pair", "form", "train", "valid", "test")
# Of an experiment: the option, and a part of the names of the rows that it is for.
OF_ROWS = {
    "kd-beam": "seq-kd",
    "inter-beam": "seq-inter",
    "similarity": "seq-inter",
    "alpha": "word-kd",
    "on-policy.*": "on-policy",
}


def check_train(command: arguments.Train) -> None:
    """Refuses options of ``train`` that others leave without effect."""
    if command.teacher_cache and not command.teacher:
        raise UsageError(
            "--teacher-cache needs --teacher as well: the folder of the teacher that the cache "
            "is from."
        )
    if not command.teacher:
        unused(command, "without --teacher", "alpha")
    if command.teacher_cache and command.alpha == 0:
        raise UsageError("--teacher-cache has no effect with --alpha 0: leave one of the two out.")
    words = [name for name in VOCABULARY if name != "characters"]
    words += [field.name for field in fields(arguments.Vocabularies)]
    if command.start:
        if command.size != Size():
            raise UsageError(
                "--start brings the shape of the model: leave out the options that set it "
                "(--hidden, ...)."
            )
        unused(command, "with --start, which brings the shape of the model", *SIZE)
        unused(command, "with --start, which brings its vocabularies", *words, "characters")
    if command.teacher:
        unused(command, "with --teacher, which brings its vocabularies", *words)
    _check_shape(command, "", command.size)
    _check_training(command, "", command.training)


def check_characters(command: arguments.Train, teacher: Trained) -> None:
    """Refuses other characters of the source than the teacher's vocabulary has."""
    spelt = bool(getattr(teacher.src_vocab, "characters", ()))
    wanted = command.characters in ("source", "both")
    if "characters" in command.given and wanted != spelt:
        raise UsageError(
            f"--characters is {command.characters}, but the source vocabulary that --teacher "
            f"brings has {'' if spelt else 'no '}characters: give "
            f"{'source or both' if spelt else 'none or target'}."
        )


def check_run(command: arguments.Run, rows: Iterable[str]) -> None:
    """Refuses options of ``run`` that none of its rows looks at."""
    unused(command, "in run; it is for table3", "prune-ratios", "prune-by", "bits", "pruning.*")
    for option, part in OF_ROWS.items():
        if not any(part in row for row in rows):
            unused(command, f"where no row has {part} in its name", option)
    for name in "teacher", "student":
        _check_shape(command, f"{name}.", getattr(command.plan, name))
    for name in "teacher-training", "student-training", "fine-tuning":
        _check_training(command, f"{name}.", getattr(command.plan, name.replace("-", "_")))


def check_table3(command: arguments.Table3) -> None:
    """Refuses options of ``table3`` that are for rows of Table 1."""
    unused(command, "in table3", "inter-beam", "similarity", "alpha", "on-policy.*")


def check_prune(command: arguments.Prune) -> None:
    """Refuses options of ``prune`` that others leave without effect."""
    _check_training(command, "", command.training)


def check_compress(command: arguments.Compress) -> None:
    """Refuses options for the training of values where there is no text to train them on."""
    if not command.corpus.data and not command.corpus.train:
        unused(command, "without --data or --train", *CORPUS, *TRAINING, *VALIDATION, "seed")
    _check_training(command, "", command.training)


def unused(command: arguments.Learning, where: str, *options: str) -> None:
    """Refuses options, which may be patterns, that were given and have no effect."""
    for name in command.given:
        if _matches(name, options) or _matches(name.removeprefix("no-"), options):
            raise UsageError(f"--{name} has no effect {where}: leave it out.")


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern.replace("_", "-")) for pattern in patterns)


def _check_shape(command: arguments.Learning, prefix: str, size: Size) -> None:
    parts = size.parts
    conditions = {
        "window": (parts.alignment == "global", f"where --{prefix}parts.alignment is global"),
        "max-source": (
            parts.attention != "location",
            f"where --{prefix}parts.attention is not location",
        ),
        "join": (not size.bidirectional, f"without --{prefix}bidirectional"),
        "attends": (parts.attention == "none", f"where --{prefix}parts.attention is none"),
        "input-feeding": (
            parts.attention == "none" or parts.attends == "input",
            "where nothing attends above the decoder's layers",
        ),
    }
    for name, (idle, where) in conditions.items():
        if idle:
            unused(command, where, f"{prefix}parts.{name}")


def _check_training(command: arguments.Learning, prefix: str, training: Training) -> None:
    if training.optimizer != "adam":
        unused(command, f"where --{prefix}optimizer is {training.optimizer}", f"{prefix}warmup")


def vocabularies_of(
    command: arguments.Learning, files: arguments.Vocabularies, plan: Plan
) -> tuple[Vocabulary | None, Vocabulary | None]:
    """Reads the vocabularies that a command was given; those of a side without one are new."""
    if files.vocab:
        unused(command, "with --vocab, which is for both sides", "src-vocab", "tgt-vocab")
    src, tgt = files.src_vocab or files.vocab, files.tgt_vocab or files.vocab
    if src and tgt:
        unused(command, "where both vocabularies are given", "vocabulary", "vocabulary-size")
    if src:
        unused(command, "where the vocabulary of the source is given", "features")
        if plan.characters in ("source", "both"):
            raise UsageError(
                f"--characters {plan.characters} needs a new source vocabulary, but one is "
                "given: leave out one of the two."
            )
    if plan.shared_vocabulary and (src or tgt) and not files.vocab:
        raise UsageError(
            "--shared-vocabulary needs one vocabulary for both sides: give it with --vocab, or "
            "give --no-shared-vocabulary."
        )
    opened = {path: open_vocabulary(path, plan.lower) for path in (src, tgt) if path}
    if tgt and isinstance(opened[tgt], InputVocabulary):
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
        if given.data == "grammar":
            unused(command, "with --data grammar", "pair", "form")
        return load_corpus(given.data, given.pair or "en-de", given.form)
    if not given.train or not given.valid:
        raise UsageError(
            "There is no text to train on or to validate with: give --data grammar, or both "
            "--train SOURCE TARGET and --valid SOURCE TARGET."
        )
    unused(command, "with files of your own; it is for --data multi30k", "form")
    pair = given.pair or "source-target"
    train, valid = _files(given.train), _files(given.valid)
    if not isinstance(given, arguments.TestedCorpus):
        return corpus_from_files(train, valid, pair=pair)
    return corpus_from_files(train, valid, _files(given.test or given.valid), pair=pair)


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
