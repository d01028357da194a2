"""Model cards: what a model is, what taught it, on what, and its scores with their signatures.

    card = model_card("runs/demo/seq-kd", load_model("runs/demo/seq-kd"))
    print(card_text(card))

Everything is taken from the records beside the model, and is left out where there is none. Scores
of other parameters than the model's are left out too. Floor 7.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .addresses import PathLike, as_path
from .errors import UsageError
from .evaluation import Evaluation, count_parameters
from .model_folder import read_config
from .report.records import EVALUATION, read_evaluation
from .report.results import read_results
from .sealed import read_record
from .trained import TrainedModel, had_teacher

# What a training of ``recipes`` notes in config.json, and what it says about the method.
METHODS = {
    "kd_weight": "Word-KD with weight {}",
    "kd_beam": "Seq-KD on the teacher's translations, with a beam of {}",
    "weights": "all hypotheses of each list, weighted",
    "filters": "without pairs that look wrong",
    "inter_beam": "Seq-Inter, with a beam of {}",
    "on_policy": "on-policy distillation, {}",
    "mask": "weights pruned, mask {}",
    "bits": "weights share values, codes of {} bits",
}
# The same for text that ``seqkd distill`` made, by what it chose from each list.
CHOICES = {
    "best": "Seq-KD on a teacher's translations",
    "reference": "Seq-Inter: of a teacher's translations, those closest to the references",
    "mbr": "Seq-KD on a teacher's translations chosen by minimum Bayes risk",
}


def model_card(
    folder: PathLike, trained: TrainedModel, teacher_folder: PathLike | None = None
) -> dict[str, Any]:
    """Returns the card of a model as JSON.

    Args:
      folder: of the model.
      trained: the model that it holds.
      teacher_folder: of the model that taught it; None for ``teacher`` beside a student that an
        experiment has trained.

    Raises:
      FileNotFoundError: ``teacher_folder`` holds no model.
      UsageError: a record is damaged or was edited.
    """
    folder = as_path(folder)
    trainings = _trainings(read_config(folder / "config.json")[2])
    card: dict[str, Any] = {
        "name": folder.resolve().name,
        "model": {
            "parameters": count_parameters(trained.params),
            "digest": trained.digest,
            "config": asdict(trained.config),
            "parts": asdict(trained.parts),
        },
        "vocabularies": {
            side: {"size": vocab.size, "lower": vocab.lower, "digest": vocab.digest}
            for side, vocab in (("source", trained.src_vocab), ("target", trained.tgt_vocab))
        },
        "method": list(_methods(trainings).values()),
        "trainings": trainings,
    }
    # Students of a run's further seeds are in folders of their own, seed-2, within the run's.
    above = [folder.resolve().parent]
    above += [above[0].parent] if above[0].name.startswith("seed-") else []
    beside = [path for run in above if ((path := run / "teacher") / "config.json").exists()]
    if teacher_folder is None and had_teacher(trainings) and beside:
        teacher_folder = beside[0]
    if teacher_folder is not None:
        card["teacher"] = _teacher(as_path(teacher_folder), trainings)
    for results in (run / "results.json" for run in above):
        if results.exists():
            card["experiment"] = read_results(results).about
    if (scores := _scores(folder, trained.digest)) is not None:
        card["scores"] = scores
    return card


def _methods(trainings: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Returns what each method did, in the order of the trainings; of several rounds, the last."""
    methods = {}
    for training in trainings:
        if distilled := training.get("text", {}).get("distilled"):
            beam = f", with a beam of {distilled['beam']}" if distilled["beam"] else ""
            methods["distilled"] = CHOICES[distilled["choice"]] + beam
        methods |= {
            name: text.format(training[name])
            for name, text in METHODS.items()
            if training.get(name)
        }
    return methods


def _trainings(description: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*description["history"], description["made_by"]]


def _teacher(folder: Path, trainings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    config, parts, description = read_config(folder / "config.json")
    teacher: dict[str, Any] = {
        "name": folder.resolve().name,
        "config": asdict(config),
        "parts": asdict(parts),
        "trainings": _trainings(description),
    }
    path = folder / "evaluation.json"
    if path.exists():
        record = read_record(path, EVALUATION)
        teacher["digest"], teacher["scores"] = record["of"]["model"], _of(record)
    texts = [t.get("text", {}).get("distilled") or {} for t in trainings]
    digests = [t["teacher_digest"] for t in [*texts, *trainings] if t.get("teacher_digest")]
    known = digests[-1] if digests else None
    if known and teacher.setdefault("digest", known) != known:
        raise UsageError(
            f"{folder}: not the model that taught this student, whose parameters are "
            f"{known[:12]}; name the right folder with --teacher."
        )
    return teacher


def _scores(folder: Path, digest: str) -> dict[str, Any] | None:
    path = folder / "evaluation.json"
    if not path.exists():
        return None
    record = read_record(path, EVALUATION)
    return _of(record) if record["of"]["model"] == digest else None


def _of(record: Mapping[str, Any]) -> dict[str, Any]:
    evaluation: Evaluation = read_evaluation(record["evaluation"])
    return {
        "test": record["of"]["test"],
        "made": dict(evaluation.made),
        "sentences": evaluation.sentences,
        "decodings": {
            str(beam): {"bleu": d.bleu, "chrf": d.chrf} for beam, d in evaluation.decodings.items()
        },
        "perplexity": evaluation.perplexity,
        "bleu_signature": evaluation.bleu_signature,
        "chrf_signature": evaluation.chrf_signature,
    }


def card_text(card: Mapping[str, Any]) -> str:
    """Returns a card as Markdown."""
    model, words = card["model"], card["vocabularies"]
    lines = [
        f"# {card['name']}",
        "",
        f"An attention LSTM of {model['parameters']:,} parameters, {_shape(model)}, that reads "
        f"{words['source']['size']:,} source words or pieces and writes "
        f"{words['target']['size']:,}. Made with seqkd_jax "
        "(sequence-level knowledge distillation, Kim & Rush 2016).",
        "",
        "## What taught it",
        "",
        *(f"- {method}." for method in card["method"] or ["The sentence pairs themselves"]),
    ]
    if teacher := card.get("teacher"):
        known = f", parameters {teacher['digest'][:12]}" if "digest" in teacher else ""
        lines.append(f"- Teacher: {teacher['name']}, {_shape(teacher)}{known}.")
    if about := card.get("experiment"):
        lines.append(f"- Corpus: {about['corpus']}.")
    else:
        texts = [_called(t["text"]) for t in card["trainings"] if t.get("text")]
        lines += [f"- Corpus: {text}." for text in dict.fromkeys(texts)]
    learnt = {(t["pairs"], t.get("seed")): None for t in card["trainings"] if t.get("pairs")}
    lines += [f"- Training pairs {pairs[:12]} (sha256), seed {seed}." for pairs, seed in learnt]
    lines += ["", "## Scores", ""]
    scored = {
        name: of["scores"]
        for name, of in ((card["name"], card), ("teacher", card.get("teacher") or {}))
        if "scores" in of
    }
    lines += _table(scored) if scored else ["None are on record for these parameters."]
    if exported := card.get("exported"):
        lines += ["", "## This file", "", *_exported(exported, bool(scored))]
    return "\n".join([*lines, "", f"Parameters: {model['digest']} (sha256)", ""])


def _called(text: Mapping[str, Any]) -> str:
    return text["corpus"] + (f" ({text['files']})" if "files" in text else "")


def _shape(of: Mapping[str, Any]) -> str:
    config = of["config"]
    return f"{config['layers']} x {config['hidden']}"


def _table(scored: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = ["| | beam | BLEU | chrF | perplexity | test sentences |", "|---|---|---|---|---|---|"]
    for name, scores in scored.items():
        for beam, of in scores["decodings"].items():
            lines.append(
                f"| {name} | {beam} | {of['bleu']:.2f} | {of['chrf']:.2f} "
                f"| {scores['perplexity']:.2f} | {scores['sentences']:,} |"
            )
    signatures = {scores[n] for scores in scored.values() for n in scores if "signature" in n}
    return [*lines, "", *(f"- {signature}" for signature in sorted(signatures))]


def _exported(exported: Mapping[str, Any], scored: bool) -> list[str]:
    lines = [
        f"- Weights: {exported['weights']}; for {', '.join(exported['platforms'])}; jax "
        f"{exported['jax']}, seqkd_jax {exported['seqkd_jax']}.",
        f"- Search: beam of {exported['search']['beam_size']}, sources up to "
        f"{exported['search']['max_source']} tokens.",
    ]
    if scored and exported["weights"] != "float32":
        lines.append("- The scores above are those of the weights before they were rounded.")
    return lines
