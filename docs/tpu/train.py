"""Distils a small translator from a big one, on TPUs, GPUs or CPUs, in one process or in many.

    python docs/tpu/train.py --out runs/grammar                # one machine, all of its devices
    docs/tpu/processes.sh 2 --out runs/grammar                 # two processes on this machine
    docs/tpu/slurm.sh, docs/tpu/tpu_vm.sh                      # nodes of a cluster, a TPU slice

Process 0 prints a table of three lines: BLEU of the teacher, of a baseline of the student's size,
and of the student that the teacher taught by words and by whole sentences (Kim & Rush 2016). With
the grammar corpus, the student is better than the baseline. All processes must see the same folder
``--out``. Stopped or killed, the run goes on where it was when it is started again, in as many
processes as you like.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from seqkd_jax import evaluate, program, recipes
from seqkd_jax.commands import prepare
from seqkd_jax.data import load_corpus
from seqkd_jax.settings import PLANS, Hosts, Plan


def arguments() -> argparse.Namespace:
    """Reads the few flags."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the experiment")
    parser.add_argument("--data", default="grammar", help="grammar, noisy-grammar or multi30k")
    parser.add_argument("--tokens", type=int, help="tokens of a batch, on all devices together")
    parser.add_argument("--pairs", type=int, help="train on the first pairs only, to try it out")
    parser.add_argument("--coordinator", help="host:port of process 0; found on TPUs and SLURM")
    parser.add_argument("--processes", type=int, help="number of processes")
    parser.add_argument("--process", type=int, help="number of this process, from 0")
    return parser.parse_args()


def main() -> None:
    """Trains a teacher, a baseline and a student, and compares them."""
    given = arguments()
    prepare(Hosts(given.coordinator, given.processes, given.process))
    plan, corpus = PLANS.get(given.data, Plan()), load_corpus(given.data)
    if given.tokens:
        teacher_training, student_training = (
            replace(training, tokens_per_batch=given.tokens)
            for training in (plan.teacher_training, plan.student_training)
        )
        plan = replace(plan, teacher_training=teacher_training, student_training=student_training)
    if given.pairs:
        first = slice(given.pairs)
        corpus = replace(
            corpus, **{n: getattr(corpus, n)[first] for n in ("train", "valid", "test")}
        )
    exp = recipes.experiment(corpus, given.out, plan)

    def train(name, size, training, pairs, objective=recipes.LIKELIHOOD):
        return recipes.train(
            exp, name, recipes.new(exp, size), pairs, training, objective=objective
        )

    human, training = corpus.train, plan.student_training
    teacher = train("teacher", plan.teacher_size, plan.teacher_training, human)
    baseline = train("baseline", plan.student_size, training, human)
    distilled = recipes.seq_kd_pairs(exp)  # the processes share the decoding
    objective = recipes.word_kd_from(teacher, plan.kd_weight)
    student = train("seq-kd+word-kd", plan.student_size, training, distilled, objective)
    for name, model in {"teacher": teacher, "baseline": baseline, "student": student}.items():
        greedy = evaluate(model, corpus.test, beams=(1,)).decodings[1]
        print(f"{name}: BLEU {greedy.bleu:.2f}, {greedy.sentences_per_second:.0f} sentences/s")


if __name__ == "__main__":
    program.end(lambda: program.run(main))
