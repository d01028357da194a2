"""Commands that measure: quality and speed."""

from collections.abc import Sequence
from dataclasses import replace

import jax

from .. import arguments
from .. import bench as benchmark
from ..data.corpora import languages
from ..data.text import read_pairs
from ..distill.shortlist import Shortlist
from ..evaluate import evaluate as evaluate_model
from ..files import make_folder
from ..plan import GREEDY
from ..report.speed import keep_speed, kept_speed, speed_table
from ..report.table import Row, compared, table
from ..scoring import Scorer, tokenizer
from ..train.model_folder import load_model
from .process import prepare
from .use import fitted_shortlist


def evaluate(command: arguments.Evaluate) -> None:
    """Prints a table of models."""
    prepare()
    pairs = read_pairs(command.source, command.reference)
    fitted_on = read_pairs(*command.shortlist) if command.shortlist else None
    models = [load_model(folder) for folder in command.models]
    language = languages(command.pair)[1] if command.pair else ""
    # One case for all, or their scores could not be compared.
    lower = any(trained.tgt_vocab.lower for trained in models)
    scorer = Scorer(tokenizer(command.tokenize, language), lower)
    rows: list[Row] = []
    changed: list[str] = []
    for folder, trained in zip(command.models, models, strict=True):
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
                scorer=scorer,
                shortlist=shortlist,
            )
            rows.append(Row(name, evaluation, {}))
        if fitted_on is not None:
            decoded = [bool(trained.src_vocab.encode(source)) for source, _ in pairs]
            changed.append(_changed(rows[-2], rows[-1], decoded))
    print(table(compared(rows, [target for _, target in pairs], scorer)))
    for lines in changed:
        print(lines)


def bench(command: arguments.Bench) -> None:
    """Measures speed, prints tables and writes JSON."""
    prepare()
    jax.config.update("jax_enable_compilation_cache", False)  # compilation is measured, too
    if command.out:  # what is wrong with it is said before anything is measured
        kept_speed(command.out)
        make_folder(command.out.parent)
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


def _changed(plain: Row, short: Row, decoded: Sequence[bool]) -> str:
    """What a shortlist changes, for each beam; of the lines that there was something to decode."""
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
    return "\n".join(lines)
