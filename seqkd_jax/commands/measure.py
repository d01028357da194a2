"""Commands that measure: quality and speed."""

from dataclasses import replace

import jax

from .. import __main__ as arguments
from .. import bench as benchmark
from ..data.text import read_pairs
from ..distill.shortlist import Shortlist
from ..evaluate import evaluate as evaluate_model
from ..plan import GREEDY
from ..report.speed import keep_speed, kept_speed, speed_table
from ..report.table import Row, compared, table
from ..train.model_folder import load_model
from .process import prepare
from .use import fitted_shortlist


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
            kinds[f"{folder}, shortlist"] = fitted_shortlist(trained, fitted_on)
        for name, shortlist in kinds.items():
            evaluation = evaluate_model(
                trained.model,
                trained.params,
                trained.src_vocab,
                trained.tgt_vocab,
                pairs,
                beams=command.beams,
                search=replace(GREEDY, max_source=command.max_source),
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
