"""What the page shows, as JSON.

title, beams, spaced, similarity of lists, note of each run
systems      a row of a run: its measures, and its curve of validations
sentences    source, reference, the different texts that systems wrote, their BLEU
outputs      of a system with a seed and a beam: the number of a text for each sentence, and whether
             attention is of this model
attention    by system and sentence: the weights of a text as digits, by the text's number
lists        by run and sentence: the teacher's hypotheses, and what was chosen
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from ...distill.similarity import has_word_spaces
from ...errors import UsageError
from ...evaluation import Evaluation
from ...model_folder import validations
from ...provenance import origin_lines
from ..table import Row, left_out
from .insides import Lists, Unavailable, attention_of, lists_of_test
from .kept import KeptRun

MOST_HYPOTHESES = 10  # of a list; those that were chosen are shown whatever their rank


def page_content(runs: Sequence[KeptRun], sentences: int | None = None) -> dict[str, Any]:
    """Returns what the page shows; what only the models know is computed and kept.

    Args:
      runs: with the same test set.
      sentences: number of test sentences, the first ones; None for all.
    """
    first = runs[0]
    pairs = first.pairs[:sentences]
    spaced = has_word_spaces(side for pair in pairs for side in pair)
    texts = _Texts(len(pairs))
    systems, outputs, attention = [], [], []
    notes: list[list[str]] = [[] for _ in runs]
    names = _names([run.name for run in runs])
    for number, run in enumerate(runs):
        offset = len(systems)
        rows = {row.name: offset + n for n, row in enumerate(run.results.rows)}
        for row in run.results.rows:
            name = f"{names[number]} {row.name}" if len(runs) > 1 else row.name
            system = _measures(row) | {"name": name, "run": number, "row": row.name}
            compared_to = None if row.compared_to is None else rows.get(row.compared_to)
            systems.append(system | {"compared_to": compared_to, "curve": _curve(run, row)})
            seeds = run.results.about["seeds"]
            asked = run.kept[row.name][0].model  # whose attention is shown
            for seed, kept in zip(seeds, run.kept[row.name], strict=True):
                for beam, decoding in kept.evaluation.decodings.items():
                    number_of = texts.add((decoding.outputs or ())[: len(pairs)])
                    of = {"system": rows[row.name], "seed": seed, "beam": beam}
                    of |= {"attention": kept.model == asked}
                    outputs.append(of | {"texts": number_of})
            weights, note = _attention(run, row, texts, pairs, spaced, name)
            attention.append(weights)
            notes[number] += [note] if note else []
    lists, chosen_by = [], []
    for number, run in enumerate(runs):
        found, note = _lists(run, len(pairs))
        notes[number] += [note] if note else []
        lists.append(None if found is None else _shown_lists(found))
        chosen_by.append(None if found is None else found.similarity)
    return {
        "title": ", ".join(names),
        "spaced": spaced,
        "total": len(first.pairs),
        "beams": sorted({output["beam"] for output in outputs}),
        "runs": [
            _about(run) | {"name": name, "notes": note, "similarity": similarity}
            for run, name, note, similarity in zip(runs, names, notes, chosen_by, strict=True)
        ],
        "systems": systems,
        "sentences": {
            "source": [source for source, _ in pairs],
            "reference": [target for _, target in pairs],
            "texts": texts.lines,
            "bleu": texts.bleu(first, [target for _, target in pairs]),
        },
        "outputs": outputs,
        "attention": attention,
        "lists": lists,
    }


class _Texts:
    """The different texts of each sentence: systems often write the same."""

    def __init__(self, sentences: int):
        self.lines: list[list[str]] = [[] for _ in range(sentences)]

    def add(self, outputs: Sequence[str]) -> list[int]:
        """Returns the number of each output among the texts of its sentence."""
        numbers = []
        for line, text in zip(self.lines, outputs, strict=True):
            if text not in line:
                line.append(text)
            numbers.append(line.index(text))
        return numbers

    def bleu(self, run: KeptRun, references: Sequence[str]) -> list[list[float]]:
        """Returns the BLEU of each text of each sentence, rounded as it is shown."""
        flat = [(t, r) for line, r in zip(self.lines, references, strict=True) for t in line]
        scores = iter(run.scorer.sentence_bleu([t for t, _ in flat], [r for _, r in flat]))
        return [[round(next(scores), 1) for _ in line] for line in self.lines]


def _names(names: list[str]) -> list[str]:
    """Returns the names, numbered where two runs have the same."""
    return [f"{name} ({n + 1})" if names.count(name) > 1 else name for n, name in enumerate(names)]


def _about(run: KeptRun) -> dict[str, Any]:
    about, evaluations = run.results.about, [e for row in run.results.rows for e in row.evaluations]
    signatures = [f"BLEU {e.bleu_signature}; chrF {e.chrf_signature}" for e in evaluations]
    made = origin_lines(e.made for e in evaluations)
    return {
        "corpus": about.get("corpus", ""),
        "seeds": about["seeds"],
        "kd_beam": run.plan["kd_beam"],
        "inter_beam": run.plan["inter_beam"],
        "truth": run.results.truth and vars(run.results.truth),
        "about": list(dict.fromkeys([*signatures, *left_out(evaluations), *made])),
    }


def _measures(row: Row) -> dict[str, Any]:
    return {
        "parameters": row.evaluation.parameters,
        "seconds": row.seconds,
        "perplexity": _number(row.mean(lambda e: e.perplexity)),
        "mode_mass": _number(row.mean(lambda e: e.mode_mass)),
        "decodings": {str(beam): _decoding(row, beam) for beam in row.evaluation.decodings},
    }


def _decoding(row: Row, beam: int) -> dict[str, Any]:
    def mean(measure: Callable[[Any], float]) -> float | None:
        return _number(row.mean(lambda e: measure(e.decodings[beam])))

    difference = row.differences.get(beam)
    return {
        "bleu": mean(lambda d: d.bleu),
        "spread": row.spread(functools.partial(_bleu, beam)),
        "chrf": mean(lambda d: d.chrf),
        "speed": mean(lambda d: d.sentences_per_second),
        "metrics": {
            name: mean(lambda d, name=name: d.metrics.get(name, math.nan))
            for name in row.evaluation.decodings[beam].metrics
        },
        "difference": difference
        and {"bleu": difference.bleu, "p": difference.p_value, "seeds": difference.by_seed},
    }


def _bleu(beam: int, evaluation: Evaluation) -> float:
    return evaluation.decodings[beam].bleu


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no other numbers


def _curve(run: KeptRun, row: Row) -> list[list[float]]:
    """Returns (validation, BLEU) of the training of the first seed; none if it is not there."""
    try:
        found = validations(run.kept[row.name][0].folder)
    except UsageError:
        return []
    return [[v["epoch"], round(v["bleu"], 2)] for v in found if v.get("bleu") is not None]


def _attention(
    run: KeptRun,
    row: Row,
    texts: _Texts,
    pairs: Sequence[tuple[str, str]],
    spaced: bool,
    name: str,
) -> tuple[list[dict[int, str]] | None, str]:
    """Returns the attention of a row's first seed by sentence and text, or why there is none."""
    if row.name == "teacher" and run.plan["teachers"] > 1:
        return None, f"no attention of {name}: it is an ensemble"
    kept = run.kept[row.name][0]
    written = dict.fromkeys(
        (n, texts.lines[n].index(text))
        for decoding in kept.evaluation.decodings.values()
        for n, text in enumerate((decoding.outputs or ())[: len(pairs)])
    )
    own = [(pairs[n][0], texts.lines[n][number]) for n, number in written]
    try:
        weights = attention_of(kept, own, spaced, name)
    except Unavailable as error:
        return None, f"no attention of {name}: {error}"
    by_sentence: list[dict[int, str]] = [{} for _ in pairs]
    for (n, number), digits in zip(written, weights, strict=True):
        if digits:
            by_sentence[n][number] = digits
    return by_sentence, ""


def _lists(run: KeptRun, sentences: int) -> tuple[Lists | None, str]:
    try:
        return lists_of_test(run, sentences), ""
    except Unavailable as error:
        return None, f"no lists of the teacher: {error}"


def _shown_lists(found: Lists) -> list[dict[str, Any]]:
    shown = []
    for index, nbest in enumerate(found.nbest):
        inter = None if found.seq_inter is None else found.seq_inter[index]
        chosen = {found.seq_kd[index], inter}
        scores = nbest.log_probs or (math.nan,) * len(nbest.texts)
        similarities = found.similarities[index]
        hypotheses = [
            [rank, text, _rounded(score, 2), _rounded(similarity, 3)]
            for rank, (text, score, similarity) in enumerate(
                zip(nbest.texts, scores, similarities, strict=True), 1
            )
            if rank <= MOST_HYPOTHESES or text in chosen
        ]
        shown.append({"hypotheses": hypotheses, "seq_kd": found.seq_kd[index], "seq_inter": inter})
    return shown


def _rounded(value: float, places: int) -> float | None:
    return round(value, places) if math.isfinite(value) else None
