"""Other systems, which the paper builds on or is compared with, as rows of a table.

Each has the shape of the experiment's teacher with other parts. Deep-Att and Deep-ED, which have
many layers, have the shape of the student; they and Sutskever's model train longer. In a notebook:

    size = dataclasses.replace(exp.plan.teacher_size, parts=Parts(attention="concat"))
    model, pairs = recipes.new(exp, size), exp.corpus.train
    trained = recipes.train(exp, "concat", model, pairs, exp.plan.teacher_training)
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from ..settings import Parts, Plan, Size, Training
from ..trained import TrainedModel
from .amount import longer, settled
from .experiment import Experiment
from .stages import new, train

# Zhou et al. 2016: interleaved columns, fast-forward connections, peepholes; 9 + 7 layers.
DEEP = Parts(
    cell="peephole",
    connections="fast-forward",
    join="interleaved",
    bridge="zero",
    attends="input",
)
# Sutskever et al. 2014: a reversed source; the decoder sees the encoder's last state, no attention.
SUTSKEVER = Parts(attention="none", reverse_source=True)
UNIT_VARIANCE = 3**0.5  # U(-sqrt(3), sqrt(3)) has variance 1


class System(NamedTuple):
    """A row: the shape of a model, and how it is trained."""

    size: Callable[[Plan], Size]
    training: Callable[[Experiment], Training] = lambda exp: exp.plan.teacher_training


def _like_teacher(parts: Parts, **size: object) -> System:
    return System(lambda plan: replace(plan.teacher_size, parts=parts, **size))


def _longer_than_teacher(exp: Experiment) -> Training:
    # Without attention one state must hold the whole sentence, which takes longer to learn.
    return longer(settled(exp.plan.teacher_training, exp.tokens), 4)


def _deep(attention: str) -> System:
    parts = replace(DEEP, attention=attention)  # type: ignore[arg-type]

    def size(plan: Plan) -> Size:
        return replace(
            plan.student_size,
            layers=7,
            encoder_layers=9,
            bidirectional=True,
            init_scale=(0.75 / plan.student_size.hidden) ** 0.5,  # gives a variance of 1 / 4H
            embed_scale=UNIT_VARIANCE,  # 2 + 2 layers learnt faster with it than with less
            parts=parts,
        )

    return System(size, _deep_training)


def _deep_training(exp: Experiment) -> Training:
    # With the student's settings, the model learnt only the word frequencies of ``grammar``.
    # There is a single batch shape because 16 layers take long to compile.
    training = longer(settled(exp.plan.student_training, exp.tokens), 5)
    assert training.rate is not None
    return replace(training, rate=0.6 * training.rate, warmup=400, clip=1.0, buckets=1)


SHAPES: dict[str, System] = {
    "luong-dot": _like_teacher(Parts(attention="dot")),
    "luong-concat": _like_teacher(Parts(attention="concat")),
    "luong-location": _like_teacher(Parts(attention="location")),
    "luong-local-m": _like_teacher(Parts(alignment="local-m")),
    "luong-local-p": _like_teacher(Parts(alignment="local-p")),
    "luong-no-feeding": _like_teacher(Parts(input_feeding=False)),
    "lower-attention": _like_teacher(Parts(lower_attention=2), layers=2),
    "skip": _like_teacher(Parts(connections="skip"), layers=3),
    "residual": _like_teacher(Parts(connections="residual"), layers=3),
    "concatenated": _like_teacher(Parts(join="concat"), bidirectional=True),
    "sutskever": System(
        lambda plan: replace(
            plan.teacher_size,
            layers=4,
            bidirectional=False,
            embed_scale=UNIT_VARIANCE,
            parts=SUTSKEVER,
        ),
        _longer_than_teacher,
    ),
    "deep-att": _deep("concat"),
    "deep-ed": _deep("none"),
}


def _row(name: str) -> Callable[[Experiment], TrainedModel]:
    def row(exp: Experiment) -> TrainedModel:
        system = SHAPES[name]
        model = new(exp, system.size(exp.plan))
        return train(exp, name, model, exp.corpus.train, system.training(exp))

    return row


SYSTEMS: dict[str, Callable[[Experiment], TrainedModel]] = {name: _row(name) for name in SHAPES}
