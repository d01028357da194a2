"""On-policy distillation as a row: the baseline goes on with its own translations as targets."""

from ..train.model_folder import Trained
from .stages import Lab, train
from .table1 import baseline, teacher


def on_policy(lab: Lab) -> Trained:
    """The baseline, then its own translations with the teacher's distribution of each next word.

    As in Agarwal et al. 2024 (GKD), section 3, a student that can translate already is the start.
    The loss is ``word_kd`` alone: the words that a student chose itself are no evidence.
    """
    return train(
        lab,
        "on-policy",
        baseline(lab),
        lab.corpus.train,
        lab.plan.fine_tuning,
        alpha=1.0,
        teacher=teacher(lab),
        on_policy=lab.plan.on_policy,
    )
