"""Rows trained, evaluated and put in a table."""

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import Any

import jax

from ..data import grammar
from ..distill.translate import lines_digest
from ..errors import UsageError
from ..evaluate import Evaluation, evaluate
from ..files import atomic_write, make_folder
from ..plan import GREEDY
from ..report.records import evaluation_record, read_evaluation, unreadable
from ..report.results import write_results
from ..report.table import Row, Truth, baseline_of, compared, table
from ..scoring import Scorer, scorer_of
from ..sealed import read_record, write_record
from ..train.model_folder import Trained, training_seconds
from .on_policy import on_policy
from .stages import Lab, Pairs
from .systems import SYSTEMS
from .table1 import TABLE1, chosen_otherwise

FORMAT = "seqkd-evaluation-1"
ROWS: dict[str, Callable[[Lab], Trained]] = {**TABLE1, "on-policy": on_policy, **SYSTEMS}


def run(lab: Lab, rows: Iterable[str] = tuple(TABLE1), truth: Truth | None = None) -> list[Row]:
    """Trains and evaluates rows, and writes ``results.json`` and ``table.txt``.

    The differences of students are to ``baseline``, that of ``teacher+seq-inter`` to
    ``teacher``; both are evaluated with them. Done stages are not done again.

    Raises:
      UsageError: a row's name is not one of ``ROWS``; there is nothing to test on, or its text
        cannot be scored.
    """
    wanted = with_baselines(rows)
    scorer = ready(lab)
    done = []
    for name in wanted:
        trained = ROWS[name](lab)
        done.append(
            Row(name, evaluated(lab, name, trained), {}, training_seconds(lab.folder / name))
        )
    result = compared(done, [target for _, target in lab.corpus.test], scorer, by_name=True)
    about = about_lab(lab)
    if any("seq-inter" in name for name in wanted):
        about["seq_inter"] = chosen_otherwise(lab)
    write_results(lab.folder / "results.json", about, result, truth)
    atomic_write(lab.folder / "table.txt", (table(result, truth) + "\n").encode())
    return result


def with_baselines(rows: Iterable[str]) -> list[str]:
    """The rows, each once, and before them those that they are compared with.

    Raises UsageError for a name that is not one of ``ROWS``.
    """
    wanted = list(dict.fromkeys(rows))
    for name in wanted:
        if name not in ROWS:
            raise UsageError(f"There is no row {name!r}; the rows are: {', '.join(ROWS)}.")
    for name in tuple(wanted):
        if baseline_of(name) not in wanted:
            wanted.insert(0, baseline_of(name))
    return wanted


def ready(lab: Lab) -> Scorer:
    """The scorer of a lab's rows, made before any of them is trained.

    Raises:
      UsageError: the test set has no pair of sentences, or its text cannot be scored.
      OSError: the lab's folder cannot be written to.
    """
    if not any(source.strip() and target.strip() for source, target in lab.corpus.test):
        raise UsageError(f"{lab.corpus}: none of the test pairs has words on both sides.")
    scorer = scorer_of(lab.corpus, lab.plan.tokenize)
    make_folder(lab.folder)
    return replace(scorer, lowercase=lab.vocabularies[1].lower)


def about_lab(lab: Lab) -> dict[str, Any]:
    """What rows were made with: corpus, plan, JAX and machine."""
    return {
        "corpus": str(lab.corpus),
        "plan": asdict(lab.plan),
        "jax": jax.__version__,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": os.cpu_count(),
    }


def evaluated(lab: Lab, name: str, trained: Trained) -> Evaluation:
    """Evaluates a stage on the test set, once; outputs are kept as text files beside it.

    Raises:
      UsageError: the evaluation that was kept is damaged or was edited.
    """
    plan, path = lab.plan, lab.folder / name / "evaluation.json"
    scorer = scorer_of(lab.corpus, plan.tokenize, trained.tgt_vocab.lower)
    stamp = {
        "model": trained.digest,
        "test": lines_digest([side for pair in lab.corpus.test for side in pair]),
        "beams": list(plan.beams),
        "bleu": scorer.bleu_signature,
        "max_source": plan.max_source,
    }
    if path.exists():
        kept = read_record(path, FORMAT)
        try:
            if kept["of"] == stamp:
                return read_evaluation(kept["evaluation"])
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise unreadable(path, error) from None
    evaluation = evaluate(
        trained.model,
        trained.params,
        trained.src_vocab,
        trained.tgt_vocab,
        lab.corpus.test,
        beams=plan.beams,
        search=replace(GREEDY, max_source=plan.max_source),
        scorer=scorer,
    )
    for beam, decoding in evaluation.decodings.items():
        lines = "".join(line + "\n" for line in decoding.outputs or ())
        atomic_write(lab.folder / name / f"test.beam{beam}.txt", lines.encode())
    record = {"of": stamp, "evaluation": evaluation_record(evaluation, outputs=True)}
    write_record(path, FORMAT, record)
    return evaluation


def grammar_truth(pairs: Pairs) -> Truth:
    """Computes the grammar's own values on sentence pairs that it generated."""
    modes, nats, tokens, mass = [], 0.0, 0, 0.0
    for source, target in pairs:
        targets = grammar.targets(source)
        mode = max(targets, key=lambda t: targets[t])
        modes.append(mode)
        nats -= math.log(targets[target])
        tokens += len(target.split()) + 1
        mass += targets[mode]
    references = [target for _, target in pairs]
    return Truth(
        bleu=Scorer("none").bleu(modes, references),
        perplexity=math.exp(nats / tokens),
        mode_mass=mass / len(pairs),
    )
