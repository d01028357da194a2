"""Commands that train: an experiment, one model, a smaller one."""

import jax
import numpy as np
from tabulate import tabulate

from .. import arguments, recipes
from ..compress.prune import every_array, no_embedding
from ..distill.teacher_cache import open_teacher_cache
from ..plan import PLANS, Plan
from ..report.compressed import compressed_table
from ..report.table import table
from ..train.model_folder import load_model
from .options import (
    check_characters,
    check_compress,
    check_prune,
    check_run,
    check_table3,
    check_train,
    corpus_of,
    vocabularies_of,
)
from .process import prepare


def run(command: arguments.Run) -> None:
    """Trains and evaluates rows of Table 1, and prints the table."""
    rows = tuple(recipes.TABLE1) if "all" in command.rows else command.rows
    recipes.with_baselines(rows)  # an unknown one is refused before a corpus is read
    check_run(command, rows)
    prepare()
    given = vocabularies_of(command, command.vocabularies, command.plan)
    lab = recipes.Lab(command.out, corpus_of(command, command.corpus), command.plan, given)
    recipes.ready(lab)
    truth = None
    if command.corpus.data == "grammar":
        truth = recipes.grammar_truth(lab.corpus.test)
    print(table(recipes.run(lab, rows, truth), truth))


def demo(command: arguments.Demo) -> None:
    """Runs the main rows on the generated corpus."""
    corpus = arguments.TestedCorpus(data="grammar")
    run(arguments.Run(corpus=corpus, out=command.out, plan=PLANS["grammar"]))


def train(command: arguments.Train) -> None:
    """Trains one model."""
    check_train(command)
    prepare()
    teacher = load_model(command.teacher) if command.teacher else None
    start = load_model(command.start) if command.start else None
    if teacher and not start:
        check_characters(command, teacher)
    cache = open_teacher_cache(command.teacher_cache) if command.teacher_cache else None
    plan = Plan(
        vocabulary=command.vocabulary,
        vocabulary_size=command.vocabulary_size,
        shared_vocabulary=command.shared_vocabulary,
        features=command.features,
        characters=command.characters,
        lower=command.lower,
        **vars(command.validation),
        seed=command.seed,
    )
    given = vocabularies_of(command, command.vocabularies, plan)
    lab = recipes.Lab(command.out, corpus_of(command, command.corpus), plan, given)
    recipes.train(
        lab,
        "",
        start or command.size,
        lab.corpus.train,
        command.training,
        alpha=command.alpha if teacher else 0.0,
        teacher=teacher,
        cache=cache,
        vocabularies=(teacher.src_vocab, teacher.tgt_vocab) if teacher else None,
    )
    trained = load_model(command.out)  # what is announced is what the next command will load
    print(f"{command.out}: trained; parameters {trained.digest[:12]}.")


def prune(command: arguments.Prune) -> None:
    """Prunes a model and trains what is left."""
    check_prune(command)
    prepare()
    start = load_model(command.model)
    lab = recipes.Lab(
        command.out,
        corpus_of(command, command.corpus),
        Plan(**vars(command.validation), seed=command.seed),
    )
    pruned = recipes.prune(
        lab,
        "",
        start,
        lab.corpus.train,
        command.training,
        ratios=command.ratio,
        scheme=command.scheme,
        obd=command.saliency == "obd",
        prunable=no_embedding if command.keep_embeddings else every_array,
    )
    leaves = jax.tree.leaves(pruned.params)
    left, of = (sum(map(count, leaves)) for count in (np.count_nonzero, np.size))
    print(f"{command.out}: {left:,} of {of:,} weights left; parameters {pruned.digest[:12]}.")


def compress(command: arguments.Compress) -> None:
    """Writes a compressed model, and prints what each stage saved."""
    check_compress(command)
    prepare()
    trained = load_model(command.model)
    if command.corpus.data or command.corpus.train:
        plan = Plan(**vars(command.validation), seed=command.seed)
        lab = recipes.Lab(command.out, corpus_of(command, command.corpus), plan)
        pairs = lab.corpus.train
        trained = recipes.share_values(
            lab, "values", trained, pairs, command.training, command.bits
        )
    sizes = recipes.compress(command.out, trained, command.bits)
    stages = {
        "float32": sizes.dense,
        "without zeros": sizes.sparse,
        f"{command.bits}-bit values": sizes.shared,
        "Huffman codes (the file)": sizes.huffman,
    }
    lines = [[name, f"{size:,}", f"{sizes.dense / size:.1f}x"] for name, size in stages.items()]
    align = ("left", "right", "right")
    print(tabulate(lines, ["", "bytes", "smaller"], disable_numparse=True, colalign=align))


def table3(command: arguments.Table3) -> None:
    """Prunes and compresses the Seq-KD student of a lab, and prints the table."""
    check_table3(command)
    prepare()
    given = vocabularies_of(command, command.vocabularies, command.plan)
    lab = recipes.Lab(command.out, corpus_of(command, command.corpus), command.plan, given)
    print(compressed_table(recipes.table3(lab)))
