"""A teacher and its students on one test set: everything that this package measures, as JSON."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..data import encode_pairs
from ..decode.lists import NBest
from ..decode.translation import translate_texts
from ..progress import Bar
from ..scoring import Scorer
from ..settings import GREEDY, Search
from ..trained import TrainedModel
from .corpora import Pairs, complexity, faithfulness, word_tables
from .outputs import oracle, repeats, same, search_errors, too_short
from .tokens import Predictions, calibration, calibration_error, loss_by_position, predictions
from .truth import against_truth

BEAM = 5
ORACLE = (1, 5, 35)


def diagnose(
    teacher: TrainedModel,
    students: Mapping[str, TrainedModel],
    pairs: Pairs,
    *,
    scorer: Scorer,
    corpora: Mapping[str, Pairs] | None = None,
    truth: Callable[[str], Mapping[str, float]] | None = None,
    search: Search = GREEDY,
    oracle_sizes: Sequence[int] = ORACLE,
) -> dict[str, Any]:
    """Measures what distillation changed.

    Args:
      teacher: the model that taught.
      students: the others, by name; they may include students that were not distilled.
      pairs: (source, reference) lines of a test set.
      scorer: of the outputs.
      corpora: training corpora by name, the original one first; each is compared with it.
      truth: source -> right targets with their probabilities, if these are known.
      search: settings of searches besides their beams.
      oracle_sizes: lengths of the teacher's n-best lists whose best hypothesis is scored.

    Returns:
      A record of three parts, as JSON. ``models``: for each model BLEU of greedy search and of a
      beam of 5, ``mode_mass`` p(t = y^), ``reproduces`` (share of the teacher's beam outputs that
      its greedy search writes), ``search_errors``, ``calibration``, ``loss_by_position``,
      ``repeats``, ``too_short``, ``length_ratio``, ``agrees`` (share of tokens whose most probable
      prediction is the teacher's, if vocabularies are the same), and ``truth``. ``corpora``: for
      each corpus ``complexity`` and ``faithfulness``. ``oracle``: mean sentence BLEU by n.
    """
    sources, references = zip(*pairs, strict=True)
    record: dict[str, Any] = {"models": {}, "corpora": {}}
    total = len(sources) * (1 + 3 * (1 + len(students)))
    with Bar(desc="diagnosing", unit="sentence", total=total) as bar:

        def searched(model: TrainedModel, beam: int, n_best: int = 1) -> list[NBest]:
            bar.doing = f"{name}, K={beam}"
            settings = replace(search, beam_size=beam, n_best=n_best)
            return translate_texts(model, sources, settings, bar=bar)

        name = "teacher"
        most = max(oracle_sizes)
        lists = searched(teacher, most, most)
        record["oracle"] = oracle(lists, references, oracle_sizes, lower=scorer.lowercase)
        teacher_outputs: list[str] = []
        of_teacher: Predictions | None = None
        for name, trained in {"teacher": teacher, **students}.items():
            greedy = searched(trained, 1)
            beam = searched(trained, BEAM)
            greedy_outputs, beam_outputs = ([n.texts[0] for n in lists] for lists in (greedy, beam))
            teacher_outputs = teacher_outputs or beam_outputs
            encoded = encode_pairs(pairs, trained.src_vocab, trained.tgt_vocab, max_len=None)
            bar.doing = f"{name}, each token"
            made = predictions(trained, encoded)
            bar.update(len(sources))
            of_teacher = of_teacher or made
            diagram = calibration(made)
            has_words = map(str.strip, sources)
            decoded = [n.log_probs[0] for n, words in zip(greedy, has_words, strict=True) if words]
            record["models"][name] = {
                "bleu": {
                    1: scorer.bleu(greedy_outputs, references),
                    BEAM: scorer.bleu(beam_outputs, references),
                },
                "mode_mass": float(np.mean([math.exp(log_prob) for log_prob in decoded])),
                "reproduces": same(greedy_outputs, teacher_outputs),
                "greedy_is_beam": same(greedy_outputs, beam_outputs),
                "search_errors": search_errors(greedy, beam),
                "calibration_error": calibration_error(diagram),
                "calibration": diagram,
                "loss_by_position": loss_by_position(made),
                "repeats": repeats(sources, greedy_outputs),
                "too_short": too_short(greedy_outputs, references),
                "length_ratio": _words(greedy_outputs) / _words(references),
            }
            if trained.tgt_vocab.digest == teacher.tgt_vocab.digest:
                agrees = float((made.best == of_teacher.best).mean())
                record["models"][name]["agrees"] = agrees
            if truth is not None:
                record["models"][name]["truth"] = against_truth(trained, sources, truth)
        if corpora:
            bar.doing = "corpora"
            tables = dict(zip(corpora, word_tables(list(corpora.values())), strict=True))
            original = next(iter(tables.values()))
            for name, table in tables.items():
                measured = {"complexity": complexity(table)}
                if table is not original:
                    measured["faithfulness"] = faithfulness(original, table)
                record["corpora"][name] = measured
    return record


def _words(lines: Sequence[str]) -> int:
    return sum(len(line.split()) for line in lines)
