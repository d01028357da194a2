"""Commands that measure: quality and speed."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax

from .. import arguments
from .. import bench as benchmark
from ..data import grammar
from ..data.corpora import languages, load_corpus
from ..data.lines import read_pairs
from ..decode.shortlist import Shortlist
from ..diagnosis import diagnose as diagnose_models
from ..errors import UsageError
from ..evaluation import evaluate as evaluate_model
from ..files import make_folder
from ..model_folder import load_model
from ..provenance import library, machine
from ..report.diagnosis import FORMAT, diagnosis_tables, write_diagnosis
from ..report.page import write_page
from ..report.pictures import check_pictures, draw_diagnosis
from ..report.speed import keep_speed, kept_speed, speed_table
from ..report.table import Row, compared, table
from ..scoring import Scorer, tokenizer
from ..sealed import beginning, check_output_file
from ..settings import GREEDY
from .process import prepare
from .use import fitted_shortlist


def evaluate(command: arguments.Evaluate) -> None:
    """Prints a table that compares models."""
    prepare()
    pairs = read_pairs(command.source, command.reference)
    fitted_on = read_pairs(*command.shortlist) if command.shortlist else None
    names = _names(command.models)
    models = [load_model(folder) for folder in command.models]
    language = languages(command.pair)[1] if command.pair else ""
    # All models are compared in the same case; otherwise their scores would not be comparable.
    lower = any(trained.tgt_vocab.lower for trained in models)
    scorer = Scorer(tokenizer(command.tokenize, language), lower)
    rows: list[Row] = []
    changed: list[str] = []
    for model, trained in zip(names, models, strict=True):
        kinds: dict[str, Shortlist | None] = {model: None}
        if fitted_on is not None:
            kinds[f"{model}, shortlist"] = fitted_shortlist(trained, fitted_on)
        for name, shortlist in kinds.items():
            evaluation = evaluate_model(
                trained,
                pairs,
                beams=command.beams,
                search=replace(GREEDY, max_source=command.max_source),
                scorer=scorer,
                shortlist=shortlist,
                progress=name,
            )
            rows.append(Row(name, (evaluation,), {}))
        if fitted_on is not None:
            decoded = [bool(trained.src_vocab.encode(source)) for source, _ in pairs]
            changed += _changed(rows[-2], rows[-1], decoded)
    if len({trained.tgt_vocab.digest for trained in models}) > 1:
        changed.append("PPL: the models have different target vocabularies; do not compare it")
    rows = compared(rows, [target for _, target in pairs], scorer)
    print(table(rows, layout=command.layout, notes=changed))


def diagnose(command: arguments.Diagnose) -> None:
    """Prints tables that show what distillation changed, and writes them as a record."""
    corpus, truth = None, None
    if command.data:
        given = ("source", "reference", "original", "pair")
        for name in given:
            if getattr(command, name):
                raise UsageError(
                    f"--{name} has no effect with --data {command.data}: leave it out."
                )
    elif not command.source:
        raise UsageError("There is no text to test on: give --source and --reference.")
    if command.distilled and not (command.data or command.original):
        raise UsageError("--distilled is compared with --original: give both, or neither.")
    if command.out:
        check_output_file(command.out, beginning(FORMAT))
    if command.pictures:
        check_pictures()
        make_folder(command.pictures)
    names = _names(command.models, "teacher")
    prepare()
    if command.data:
        corpus, truth = load_corpus(command.data), grammar.targets
        pairs, tokenise = corpus.test, tokenizer(command.tokenize, tokenised=True)
    else:
        assert command.source
        pairs = read_pairs(command.source, command.reference)
        language = languages(command.pair)[1] if command.pair else ""
        tokenise = tokenizer(command.tokenize, language)
    corpora: dict[str, Sequence[tuple[str, str]]] = {}
    if command.original:
        corpora["original"] = read_pairs(*command.original)
    if command.distilled:
        if corpus:
            corpora["original"] = corpus.train
        corpora["distilled"] = read_pairs(*command.distilled)
    models = dict(zip(names, map(load_model, command.models), strict=True))
    (_, teacher), *others = models.items()
    measured = diagnose_models(
        teacher,
        dict(others),
        pairs,
        scorer=Scorer(tokenise, any(m.tgt_vocab.lower for m in models.values())),
        corpora=corpora,
        truth=truth,
        search=replace(GREEDY, max_source=command.max_source),
        oracle_sizes=command.oracle,
    )
    print(diagnosis_tables(measured, layout=command.layout))
    if command.out:
        write_diagnosis(command.out, library() | machine(), measured)
    if command.pictures:
        draw_diagnosis(measured, command.pictures)


def report(command: arguments.Report) -> None:
    """Writes the page that compares the rows of runs."""
    check_output_file(command.out, re.compile(b"<!doctype html>"))
    prepare()
    print(f"{write_page(command.out, command.runs, command.sentences)}: open it in a browser.")


def bench(command: arguments.Bench) -> None:
    """Measures speed, prints tables and writes JSON."""
    prepare()
    jax.config.update("jax_enable_compilation_cache", False)  # compilation is measured as well
    if command.rows and not command.real and (command.against or command.table2):
        raise UsageError(
            "--rows chooses among the rows of the fixed work or of --real; --against and --table2 "
            "are measured whole. Leave --rows out, or run it as a command of its own."
        )
    benchmark.chosen(benchmark.real_rows() if command.real else benchmark.FIXED, command.rows)
    if command.out:  # refuses a wrong file before anything is measured
        kept_speed(command.out)
        make_folder(command.out.parent)
    tables = []

    def done(kind: str, records: list[benchmark.Record]) -> None:
        if command.out:
            keep_speed(command.out, kind, records)
        tables.append(speed_table(records, layout=command.layout))

    for peer in command.against:
        done("against", benchmark.measure_against(peer, command.timing))
    if command.real:
        done("real", benchmark.measure_real(command.rows, command.timing))
    if command.table2:
        done("table2", benchmark.measure_table2(command.timing))
    if not tables:
        done("fixed", benchmark.measure_fixed(command.rows, command.timing))
    print("\n\n".join(tables))


def _names(folders: Sequence[Path], *others: str) -> list[str]:
    """Returns the names of folders, or their paths where names are not unique, also in others'."""
    names = [folder.resolve().name for folder in folders]
    for n, folder in enumerate(folders):
        if folder.resolve() in [other.resolve() for other in folders[:n]]:
            raise UsageError(f"{folder}: given twice; give each model once.")
    unique = len({*others, *names[len(others) :]}) == len(names)
    return names if unique else list(map(str, folders))


def _changed(plain: Row, short: Row, decoded: Sequence[bool]) -> list[str]:
    """Describes what a shortlist changes, for each beam, in the lines that could be decoded."""
    lines = []
    for beam, before in plain.evaluation.decodings.items():
        after = short.evaluation.decodings[beam]
        outputs = zip(before.outputs or (), after.outputs or (), decoded, strict=True)
        same = sum(a == b for a, b, counts in outputs if counts)
        lines.append(
            f"{short.name}, K = {beam}: {100 * same / sum(decoded):.1f} % of translations "
            f"unchanged, BLEU {after.bleu - before.bleu:+.2f}, "
            f"{after.sentences_per_second / before.sentences_per_second:.2f} times the speed"
        )
    return lines
