"""The folder of a run that is written in a moment: untrained models, outputs drawn at random."""

import dataclasses

import numpy as np
from small_folder import write_small

from seqkd_jax.data.lines import pairs_digest
from seqkd_jax.evaluation import Decoding, Evaluation
from seqkd_jax.model_folder import load_model
from seqkd_jax.report import Row, compared, write_results
from seqkd_jax.report.page.kept import keep_test
from seqkd_jax.report.records import EVALUATION, evaluation_record
from seqkd_jax.scoring import Scorer
from seqkd_jax.sealed import write_record
from seqkd_jax.settings import Plan

HOSTILE = (
    "</script><script>document.title='stolen'</script><!-- <img src=x onerror=alert(1)> \u2028"
)
SOURCES = [f"aß b {last}" for last in "cdefgh"] + [f"{HOSTILE} b", ""]
REFERENCES = [f"über {last} œuvre 文" for last in "rstδrs"] + [f"äh {HOSTILE}", "t"]
PAIRS = list(zip(SOURCES, REFERENCES, strict=True))
PLAN = Plan(kd_beam=2, inter_beam=3, beams=(1, 2))
ROWS = ("teacher", "baseline", "seq-kd", "seq-kd+seq-inter")
SCORER = Scorer("none")


def outputs(row: str, seed: int, beam: int, pairs=PAIRS) -> list[str]:
    """References with some words changed, most of them for the baseline."""
    rng = np.random.default_rng([len(row), seed, beam])
    share = 0.4 if row == "baseline" else 0.2
    return [
        " ".join(word if rng.random() > share else "über" for word in reference.split(" "))
        for _, reference in pairs
    ]


def write_run(folder, seeds=(1,), pairs=PAIRS, rows=ROWS, scorer=SCORER):
    """Writes it; the first seed is that of the plan, and has models."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = dataclasses.replace(PLAN, seed=seeds[0])
    done = []
    for number, row in enumerate(rows):
        evaluations = []
        for seed in seeds:
            first = seed == seeds[0]
            place = folder / row if first else folder / f"seed-{seed}" / row
            place.mkdir(parents=True, exist_ok=True)
            model = load_model(write_small(place, number)).digest if first else "none"
            evaluation = evaluated(row, seed, pairs, scorer)
            of = {"model": model, "test": pairs_digest(pairs)}
            record = {"of": of, "evaluation": evaluation_record(evaluation, outputs=True)}
            write_record(place / "evaluation.json", EVALUATION, record)
            evaluations.append(evaluation)
        done.append(Row(row, tuple(evaluations), {}, 1.0))
    references = [reference for _, reference in pairs]
    about = {
        "corpus": "small a-b",
        "plan": dataclasses.asdict(plan),
        "seeds": list(seeds),
        "scorer": dataclasses.asdict(scorer),
    }
    keep_test(folder, pairs)
    write_results(
        folder / "results.json", about, compared(done, references, scorer, by_name=True), None
    )
    return folder


def evaluated(row, seed, pairs, scorer) -> Evaluation:
    """The evaluation of outputs that were drawn."""
    references = [reference for _, reference in pairs]
    decodings = {}
    for beam in PLAN.beams:
        texts = outputs(row, seed, beam, pairs)
        scores = scorer.bleu(texts, references), scorer.chrf(texts, references)
        decodings[beam] = Decoding(*scores, 1000.0 / beam, 9000.0 / beam, texts)
    signatures = scorer.bleu_signature, scorer.chrf_signature
    return Evaluation(decodings, 2.5, 0.2, 1000, *signatures, sentences=len(pairs))


def large_content(sentences=1000, systems=9, words=14):
    """What a page of many sentences shows, with attention and lists; drawn at random."""
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"{a}{b}{c}" for a in "bdfgklmn" for b in "aeiou" for c in "rstnl"])

    def text() -> str:
        return " ".join(rng.choice(vocabulary, rng.integers(5, 2 * words)))

    sources, references = [[text() for _ in range(sentences)] for _ in range(2)]
    texts = [[] for _ in range(sentences)]
    attention, numbers = [], []
    for system in range(systems):
        own, looked = [], []
        for n, reference in enumerate(references):
            kept = [w if rng.random() > 0.1 + 0.03 * system else "et" for w in reference.split()]
            texts[n].append(" ".join(kept))
            own.append(system)
            size = len(kept) * len(sources[n].split())
            digits = rng.choice(list("000001259z"), size)
            looked.append({system: "".join(digits)})
        numbers.append({"system": system, "seed": 1, "beam": 1, "texts": own})
        attention.append(looked)
    scores = rng.uniform(0, 100, (sentences, systems)).round(1).tolist()
    difference = {"bleu": 1.5, "p": 0.004, "seeds": []}
    decoding = {"spread": None, "chrf": 50.0, "metrics": {}}
    return {
        "title": "large",
        "spaced": True,
        "total": sentences + 500,
        "beams": [1],
        "runs": [
            {
                "name": "large",
                "notes": [],
                "similarity": "bleu",
                "corpus": "drawn",
                "seeds": [1],
                "kd_beam": 5,
                "inter_beam": 35,
                "truth": None,
                "about": [],
            }
        ],
        "systems": [
            {
                "name": f"system {n}",
                "row": f"system {n}",
                "run": 0,
                "compared_to": 0 if n else None,
                "parameters": 10**6,
                "seconds": 9.0,
                "perplexity": 4.0,
                "mode_mass": 0.1,
                "decodings": {
                    "1": decoding
                    | {"speed": 100.0 * (n + 1), "bleu": 30.0 + n}
                    | {"difference": difference if n else None}
                },
                "curve": [[v, 20 + n + 5 * v / (1 + v)] for v in range(1, 12)],
            }
            for n in range(systems)
        ],
        "sentences": {"source": sources, "reference": references, "texts": texts, "bleu": scores},
        "outputs": numbers,
        "attention": attention,
        "lists": [
            [
                {
                    "hypotheses": [
                        [k + 1, line[k], -1.5 - k, 0.5] for k in range(min(5, len(line)))
                    ],
                    "seq_kd": line[0],
                    "seq_inter": line[min(3, len(line) - 1)],
                }
                for line in texts
            ]
        ],
    }
