"""Commands that train: an experiment, one model, or a smaller one."""

import sys
from dataclasses import replace

import jax
import numpy as np

from .. import arguments, recipes
from ..compress.prune import every_array, no_embedding
from ..data.corpora import GENERATED
from ..data.lines import read_sources
from ..distill.teacher_cache import open_teacher_cache
from ..errors import UsageError
from ..model_folder import load_model, require_settings
from ..progress import Bar
from ..provenance import other_origin_lines
from ..report.compressed import compressed_table
from ..report.layout import Column, render
from ..report.page import write_page
from ..report.trials import trials_table
from ..scoring import scorer_of
from ..settings import PLANS, Plan
from .options import (
    check_compress,
    check_prune,
    check_run,
    check_table3,
    check_train,
    check_tune,
    choice_of,
    corpus_of,
    vocabularies_of,
)
from .process import prepare


def run(command: arguments.Run) -> None:
    """Trains and evaluates rows of Table 1, and prints the table."""
    rows = tuple(recipes.TABLE1) if "all" in command.rows else command.rows
    wanted = recipes.with_baselines(rows)  # refuses an unknown row before a corpus is read
    check_run(command, rows)
    prepare(command.hosts)
    plan = replace(command.plan, seed=command.seeds[0]) if command.seeds else command.plan
    given = vocabularies_of(command, command.vocabularies, plan)
    corpus = corpus_of(command, command.corpus)
    if command.extra_source:
        corpus = replace(corpus, extra=read_sources(command.extra_source))
    exp = recipes.Experiment(command.out, corpus, plan, given)
    recipes.ready(exp, wanted)
    truth = None
    if command.corpus.data in GENERATED:
        truth = recipes.grammar_truth(exp.corpus.test)
    done = recipes.run(
        exp,
        rows,
        truth,
        seeds=command.seeds,
        new_teachers=command.new_teachers,
        anyway=command.anyway,
    )
    print(recipes.table_of(done, truth, command.layout))
    page = command.out / "page.html"
    if jax.process_count() > 1:  # models would be loaded by all processes together
        told = f"seqkd report {command.out} --out {page}: shows all outputs, sentence by sentence."
    else:
        write_page(page, [command.out])
        told = f"{page}: all outputs, sentence by sentence; open it in a browser."
    # A table for another program stays alone on standard output.
    print(told, file=sys.stdout if command.layout.format == "text" else sys.stderr)


def tune(command: arguments.Tune) -> None:
    """Chooses settings on the validation set, prints all trials, and writes the plan."""
    choices = dict(map(choice_of, command.choices))
    check_tune(command)
    prepare()
    given = vocabularies_of(command, command.vocabularies, command.plan)
    exp = recipes.Experiment(command.out, corpus_of(command, command.corpus), command.plan, given)
    _, trials = recipes.tune(exp, command.row, choices, seeds=command.seeds)
    others = other_origin_lines(made for trial in trials for made in trial.made)
    print(trials_table(trials, command.layout, others))
    plan = command.out / "plan.json"
    print(f"{plan}: the plan with the best settings; give it to seqkd run with --settings.")


def demo(command: arguments.Demo) -> None:
    """Runs the main rows on the generated corpus whose references have errors."""
    name = "noisy-grammar"
    corpus = arguments.TestedCorpus(data=name)
    run(arguments.Run(corpus=corpus, out=command.out, plan=PLANS[name], layout=command.layout))


def train(command: arguments.Train) -> None:
    """Trains one model."""
    check_train(command)
    prepare(command.hosts)
    teacher = load_model(command.teacher) if command.teacher else None
    start = load_model(command.start) if command.start else None
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
    exp = recipes.Experiment(command.out, corpus_of(command, command.corpus), plan, given)
    vocabularies = (teacher.src_vocab, teacher.tgt_vocab) if teacher else None
    # Both refuse what cannot be trained before a vocabulary is made.
    exp.corpus.require_shorter(command.training.max_tokens)
    scorer_of(exp.corpus, plan.tokenize)
    model = start or recipes.new(exp, command.size, vocabularies=vocabularies)
    objective = recipes.LIKELIHOOD
    if teacher:
        objective = recipes.word_kd_from(teacher, command.kd_weight, cache)
    recipes.train(exp, "", model, exp.corpus.train, command.training, objective=objective)
    trained = load_model(command.out)  # so that what is announced is what the next command loads
    print(f"{command.out}: trained; parameters {trained.digest[:12]}.")


def prune(command: arguments.Prune) -> None:
    """Prunes a model and trains the weights that are left."""
    check_prune(command)
    prepare(command.hosts)
    start = load_model(command.model)
    exp = recipes.Experiment(
        command.out,
        corpus_of(command, command.corpus),
        Plan(**vars(command.validation), seed=command.seed),
    )
    pruned = recipes.prune(
        exp,
        "",
        start,
        exp.corpus.train,
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
    trains = bool(command.corpus.data or command.corpus.train)
    record = command.out / "compression.json"
    settings = {"model": trained.digest, "bits": command.bits, "values_trained": trains}
    if record.exists():  # refuses another model before values are trained in vain
        require_settings(record, settings)
    elif (command.out / "config.json").exists():
        raise UsageError(f"{command.out}: this folder holds another run. Choose another folder.")
    if trains:
        plan = Plan(**vars(command.validation), seed=command.seed)
        exp = recipes.Experiment(command.out, corpus_of(command, command.corpus), plan)
        pairs = exp.corpus.train
        trained = recipes.share_values(
            exp, "values", trained, pairs, command.training, command.bits
        )
    require_settings(record, settings)
    with Bar(desc="compressing", wait=2):
        sizes = recipes.compress(command.out, trained, command.bits)
    stages = {
        "float32": sizes.dense,
        "without zeros": sizes.sparse,
        f"{command.bits}-bit values": sizes.shared,
        "Huffman codes (the file)": sizes.huffman,
    }
    lines = [[name, f"{size:,}", f"{sizes.dense / size:.1f}x"] for name, size in stages.items()]
    columns = [Column("", left=True, name="stage"), Column("bytes"), Column("smaller")]
    print(render(columns, lines, layout=command.layout))


def table3(command: arguments.Table3) -> None:
    """Prunes and compresses the Seq-KD student of an experiment, and prints the table."""
    check_table3(command)
    prepare()
    given = vocabularies_of(command, command.vocabularies, command.plan)
    exp = recipes.Experiment(command.out, corpus_of(command, command.corpus), command.plan, given)
    rows = recipes.table3(exp)
    others = other_origin_lines(e.made for row in rows for e in row.evaluations)
    print(compressed_table(rows, command.layout, others))
