"""On-policy distillation as a row: the baseline trains further on its own translations."""

from ..trained import TrainedModel
from .experiment import Experiment
from .objectives import on_policy_from
from .stages import train
from .table1 import baseline, teacher


def on_policy(exp: Experiment) -> TrainedModel:
    """Trains the baseline further, on its own translations and the teacher's distributions.

    As in Agarwal et al. 2024 (GKD), section 3, training starts from a student that can already
    translate.
    """
    plan, start, pairs = exp.plan, baseline(exp), exp.corpus.train
    objective = on_policy_from(teacher(exp), plan.on_policy)
    return train(exp, "on-policy", start, pairs, plan.fine_tuning, objective=objective)
