"""What each ``seqkd`` command does: calls of the library, in the order a reader would make them."""

import ctypes
import math
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pooch
from tabulate import tabulate
from tqdm import tqdm

from . import __main__ as arguments
from . import bench as benchmark
from . import recipes
from .bleu import gleu
from .compress.prune import every_array, no_embedding
from .data import Corpus, check_same, corpus_from_files, encode_pairs, load_corpus
from .data.text import PathLike, decode_lines, read_lines, read_pairs, write_lines
from .distill import select
from .distill.chrf import chrf
from .distill.nbest import NBest
from .distill.shortlist import Shortlist, fit_shortlist
from .distill.teacher_cache import cache_teacher, open_teacher_cache
from .distill.translate import translate_corpus, translate_texts
from .distill.unknown import check_replaceable, read_dictionary, without_unknown
from .evaluate import evaluate as evaluate_model
from .evaluate import log_probs
from .models.ensemble import ensemble
from .plan import PLANS, Plan
from .report.compressed import compressed_table
from .report.speed import keep_speed, kept_speed, speed_table
from .report.table import Row, compared, table
from .train.model_folder import Trained, load_model

SIMILARITIES: dict[str, select.Similarity] = {
    "bleu": select.bleu_of_kim_and_rush,
    "gleu": gleu,
    "chrf": chrf,
}
KEEP_BELOW = 1 << 30  # bytes: freed blocks up to this size stay with the process
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
# Without it XLA for CPUs copies all moments of Adam before it overwrites them.
XLA_FLAG = "--xla_cpu_copy_insertion_use_region_analysis=true"


def prepare() -> None:
    """Settings of the process that every command wants; before anything is computed.

    Compiled programs stay in the user's cache, freed memory in the process; XLA copies less.
    """
    cache = Path(pooch.os_cache("seqkd_jax")) / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    flags = os.environ.get("XLA_FLAGS", "")
    # XLA ends a process that gives it a flag it does not know, and flags come and go.
    if jax.__version_info__ < (0, 11) and XLA_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{XLA_FLAG} {flags}"
    warnings.showwarning = lambda message, *_: print(f"seqkd: {message}", file=sys.stderr)
    # glibc hands large freed blocks back to the system, and every step would fault them in again.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEEP_BELOW)
        mallopt(M_TRIM_THRESHOLD, KEEP_BELOW)


def run(command: arguments.Run) -> None:
    """Trains and evaluates rows of Table 1, and prints the table."""
    prepare()
    lab = recipes.Lab(command.out, _corpus(command.corpus), command.plan)
    rows = tuple(recipes.TABLE1) if "all" in command.rows else command.rows
    truth = None
    if command.corpus.data == "grammar":
        truth = recipes.grammar_truth(lab.corpus.test)
    print(table(recipes.run(lab, rows, truth), truth))


def demo(command: arguments.Demo) -> None:
    """Runs the main rows on the generated corpus."""
    corpus = arguments.Corpus(data="grammar")
    run(arguments.Run(corpus=corpus, out=command.out, plan=PLANS["grammar"]))


def train(command: arguments.Train) -> None:
    """Trains one model."""
    prepare()
    teacher = load_model(command.teacher) if command.teacher else None
    start = load_model(command.start) if command.start else None
    if command.teacher_cache and not teacher:
        raise ValueError("--teacher-cache needs --teacher as well, the folder of who wrote it.")
    cache = open_teacher_cache(command.teacher_cache) if command.teacher_cache else None
    if teacher and start:
        check_same(start.tgt_vocab, teacher.tgt_vocab)
    plan = Plan(
        vocabulary=command.vocabulary,
        vocabulary_size=command.vocabulary_size,
        shared_vocabulary=command.shared_vocabulary,
        lower=command.lower,
        tokenize=command.tokenize,
        seed=command.seed,
    )
    lab = recipes.Lab(command.out, _corpus(command.corpus), plan)
    given = start or teacher
    trained = recipes.train(
        lab,
        "",
        command.size,
        lab.corpus.train,
        command.training,
        alpha=command.alpha if teacher else 0.0,
        teacher=teacher,
        cache=cache,
        start=start,
        vocabularies=(given.src_vocab, given.tgt_vocab) if given else None,
    )
    print(f"{command.out}: trained; parameters {trained.digest[:12]}.")


def translate(command: arguments.Translate) -> None:
    """Translates lines of text."""
    prepare()
    trained = _ensemble([load_model(folder) for folder in command.models])
    if command.dictionary and not command.replace_unk:
        raise ValueError("--dictionary is for unknown words: give --replace-unk as well.")
    dictionary = read_dictionary(command.dictionary) if command.dictionary else {}
    if command.replace_unk:
        check_replaceable(trained)
    if command.source:
        lines = read_lines(command.source)
    else:
        lines = decode_lines(sys.stdin.buffer.read(), "standard input")
    shortlist = _shortlist(trained, read_pairs(*command.shortlist)) if command.shortlist else None
    with tqdm(total=len(lines), desc="translating", unit="sent", disable=None) as bar:
        nbest = translate_texts(
            trained.model,
            trained.params,
            lines,
            trained.src_vocab,
            trained.tgt_vocab,
            command.search,
            shortlist=shortlist,
            bar=bar,
        )
    if command.replace_unk:
        nbest = without_unknown(trained, lines, nbest, dictionary)
    written = [line for n in nbest for line in _shown(n, command)]
    if command.out:
        write_lines(command.out, written)
    else:
        sys.stdout.write("".join(line + "\n" for line in written))


def distill(command: arguments.Distill) -> None:
    """Decodes a corpus with a teacher and writes the text that a student trains on."""
    prepare()
    if command.mbr and command.reference:
        raise ValueError("Give --reference or --mbr: a hypothesis is close to one of them.")
    sources = read_lines(command.source)
    if command.reference:
        pairs = read_pairs(command.source, command.reference)
    else:
        pairs = [(source, "") for source in sources]
    teacher = load_model(command.model)
    nbest = translate_corpus(
        command.out / "nbest",
        teacher.model,
        teacher.params,
        sources,
        teacher.src_vocab,
        teacher.tgt_vocab,
        command.search,
        teacher=teacher.digest,
    )
    similarity = SIMILARITIES[command.similarity]
    if command.reference:
        chosen = select.seq_inter(pairs, nbest, similarity)
    elif command.mbr:
        chosen = select.mbr(pairs, nbest, similarity)
    else:
        chosen = select.seq_kd(pairs, nbest)
    write_lines(command.out / "train.src", [source for source, _ in chosen.pairs])
    write_lines(command.out / "train.tgt", [target for _, target in chosen.pairs])
    print(f"{command.out}: {len(chosen.pairs):,} pairs in train.src and train.tgt.")


def cache(command: arguments.Cache) -> None:
    """Writes the distributions of a teacher over given pairs."""
    prepare()
    teacher = load_model(command.model)
    pairs = read_pairs(command.source, command.target)
    encoded = encode_pairs(pairs, teacher.src_vocab, teacher.tgt_vocab)
    made = cache_teacher(
        command.out,
        teacher.model,
        teacher.params,
        encoded,
        teacher=teacher.digest,
        k=command.k,
        temperature=command.temperature,
    )
    print(f"{command.out}: {made}.")


def score(command: arguments.Score) -> None:
    """Prints log-probabilities."""
    prepare()
    trained = load_model(command.model)
    pairs = read_pairs(command.source, command.target)
    encoded = encode_pairs(pairs, trained.src_vocab, trained.tgt_vocab)
    scores = dict(
        zip(
            encoded.index.tolist(),
            log_probs(trained.model, trained.params, encoded).tolist(),
            strict=True,
        )
    )
    for place in range(len(pairs)):
        print(f"{scores[place]:.4f}" if place in scores else "")
    print(encoded.report, file=sys.stderr)
    if scores:
        total, tokens = sum(scores.values()), sum(map(len, encoded.tgt))
        print(
            f"average {total / len(scores):.4f} a pair, {total / tokens:.4f} a token; "
            f"perplexity {math.exp(-total / tokens):.4f}",
            file=sys.stderr,
        )


def evaluate(command: arguments.Evaluate) -> None:
    """Prints a table of models."""
    prepare()
    pairs = read_pairs(command.source, command.reference)
    fitted_on = read_pairs(*command.shortlist) if command.shortlist else None
    rows: list[Row] = []
    changed: list[list[Row]] = []
    for folder in command.models:
        trained = load_model(folder)
        kinds: dict[str, Shortlist | None] = {str(folder): None}
        if fitted_on is not None:
            kinds[f"{folder}, shortlist"] = _shortlist(trained, fitted_on)
        for name, shortlist in kinds.items():
            evaluation = evaluate_model(
                trained.model,
                trained.params,
                trained.src_vocab,
                trained.tgt_vocab,
                pairs,
                beams=command.beams,
                tokenize=command.tokenize,
                shortlist=shortlist,
            )
            rows.append(Row(name, evaluation, {}))
        if fitted_on is not None:
            changed.append(rows[-2:])
    references = [target for _, target in pairs]
    print(table(compared(rows, references, command.tokenize)))
    for plain, short in changed:
        print(_changed(plain, short))


def prune(command: arguments.Prune) -> None:
    """Prunes a model and trains what is left."""
    prepare()
    start = load_model(command.model)
    lab = recipes.Lab(
        command.out,
        _corpus(command.corpus),
        Plan(tokenize=command.tokenize, seed=command.seed),
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
    prepare()
    trained, given = load_model(command.model), command.corpus
    if given.data or given.train:
        plan = Plan(tokenize=command.tokenize, seed=command.seed)
        lab = recipes.Lab(command.out, _corpus(given), plan)
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
    prepare()
    lab = recipes.Lab(command.out, _corpus(command.corpus), command.plan)
    print(compressed_table(recipes.table3(lab)))


def bench(command: arguments.Bench) -> None:
    """Measures speed, prints tables and writes JSON."""
    prepare()
    jax.config.update("jax_enable_compilation_cache", False)  # compilation is measured, too
    if command.out:
        kept_speed(command.out)  # what is wrong with it is said before anything is measured
    tables = []

    def done(kind: str, records: list[benchmark.Record]) -> None:
        if command.out:
            keep_speed(command.out, kind, records)
        tables.append(speed_table(records))

    for peer in command.against:
        done("against", benchmark.measure_against(peer, command.timing))
    if command.real:
        done("real", benchmark.measure_real(command.rows, command.timing))
    if command.table2:
        done("table2", benchmark.measure_table2(command.timing))
    if not tables:
        done("fixed", benchmark.measure_fixed(command.rows, command.timing))
    print("\n\n".join(tables))


def _shortlist(trained: Trained, pairs: Sequence[tuple[str, str]]) -> Shortlist:
    """Fits a shortlist for a model."""
    vocabularies = trained.src_vocab, trained.tgt_vocab
    sizes = [vocabulary.size for vocabulary in vocabularies]
    return fit_shortlist(encode_pairs(pairs, *vocabularies), *sizes)


def _changed(plain: Row, short: Row) -> str:
    """What a shortlist changes, for each beam."""
    lines = []
    for beam, before in plain.evaluation.decodings.items():
        after = short.evaluation.decodings[beam]
        same = sum(a == b for a, b in zip(before.outputs, after.outputs, strict=True))
        lines.append(
            f"{short.name}, K = {beam}: {100 * same / len(before.outputs):.1f} % of translations "
            f"unchanged, BLEU {after.bleu - before.bleu:+.2f}, "
            f"{after.sentences_per_second / before.sentences_per_second:.2f} times the speed"
        )
    return "\n".join(lines)


def _corpus(given: arguments.Corpus) -> Corpus:
    if given.data and given.train:
        raise ValueError("Give either --data NAME or --train SOURCE TARGET, not both.")
    if given.data:
        return load_corpus(given.data, given.pair, given.form)
    if not given.train or not given.valid:
        raise ValueError(
            "There is nothing to train on: give --data grammar, or --train SOURCE TARGET and "
            "--valid SOURCE TARGET."
        )
    train, valid, test = map(_files, (given.train, given.valid, given.test or given.valid))
    return corpus_from_files(train, valid, test)


def _files(paths: arguments.Files) -> PathLike | tuple[PathLike, PathLike]:
    match paths:
        case (both,):
            return both
        case (source, target):
            return source, target
    names = " ".join(map(str, paths))
    raise ValueError(f"{names}: give two files, source and target, or one .tsv file with both.")


def _ensemble(members: Sequence[Trained]) -> Trained:
    if not members:
        raise ValueError("Name at least one folder of a trained model.")
    first = members[0]
    for other in members[1:]:
        check_same(first.src_vocab, other.src_vocab)
        check_same(first.tgt_vocab, other.tgt_vocab)
    if len(members) == 1:
        return first
    return Trained(
        first.config,
        ensemble([member.model for member in members]),
        tuple(member.params for member in members),
        first.src_vocab,
        first.tgt_vocab,
    )


def _shown(nbest: NBest, command: arguments.Translate) -> list[str]:
    """Lines of one sentence: the translation, or the n-best list as Moses writes it."""
    if command.search.n_best > 1:
        ranked = zip(nbest.texts, nbest.scores, strict=True)
        return [f"{nbest.index} ||| {text} ||| {score:.4f}" for text, score in ranked]
    if command.scores:
        return [f"{nbest.log_probs[0]:.4f}\t{nbest.texts[0]}"]
    return [nbest.texts[0]]
