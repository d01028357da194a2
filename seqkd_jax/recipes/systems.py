"""Other systems that the paper builds on or is compared with, as rows of a table.

Each is the lab's teacher, or its student where there are many layers, put together from other
parts; Sutskever's, Deep-Att and Deep-ED train longer than those. In a notebook:

    size = dataclasses.replace(lab.plan.teacher, parts=Parts(attention="concat"))
    model = recipes.train(lab, "concat", size, lab.corpus.train, lab.plan.teacher_training)
"""

from collections.abc import Callable
from dataclasses import replace

from ..plan import Parts, Size, Training
from ..train.model_folder import Trained
from .stages import Lab, train

# Zhou et al. 2016: interleaved columns, fast-forward connections, peepholes; 9 + 7 layers.
DEEP = Parts(
    cell="peephole",
    connections="fast-forward",
    join="interleaved",
    bridge="zero",
    attends="input",
    encoder_layers=9,
)
# Sutskever et al. 2014: a reversed source, the encoder's last state, no attention.
SUTSKEVER = Parts(attention="none", reverse_source=True)
UNIT_VARIANCE = 3**0.5  # of U(-sqrt(3), sqrt(3))


def _like_teacher(parts: Parts, **size: object) -> Callable[[Lab], tuple[Size, Training]]:
    return lambda lab: (replace(lab.plan.teacher, parts=parts, **size), lab.plan.teacher_training)


def _sutskever(lab: Lab) -> tuple[Size, Training]:
    # Without attention all of a sentence is in one state: that takes longer to learn.
    teacher, training = lab.plan.teacher, lab.plan.teacher_training
    size = replace(
        teacher, layers=4, bidirectional=False, embed_scale=UNIT_VARIANCE, parts=SUTSKEVER
    )
    return size, replace(training, epochs=4 * training.epochs)


def _deep(attention: str) -> Callable[[Lab], tuple[Size, Training]]:
    parts = replace(DEEP, attention=attention)  # type: ignore[arg-type]

    def shape(lab: Lab) -> tuple[Size, Training]:
        student, training = lab.plan.student, lab.plan.student_training
        size = replace(
            student,
            layers=7,
            bidirectional=True,
            init_scale=(0.75 / student.hidden) ** 0.5,  # a variance of 1 / 4H
            embed_scale=UNIT_VARIANCE,  # 2 + 2 layers learnt faster than with smaller ones
            parts=parts,
        )
        # With the student's own settings it learnt no more of ``grammar`` than how frequent words
        # are. One shape of batches, because 16 layers take long to compile.
        return size, replace(
            training,
            rate=0.6 * training.rate,
            warmup=400,
            clip=1.0,
            buckets=1,
            epochs=5 * training.epochs,
        )

    return shape


SHAPES: dict[str, Callable[[Lab], tuple[Size, Training]]] = {
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
    "sutskever": _sutskever,
    "deep-att": _deep("concat"),
    "deep-ed": _deep("none"),
}


def _row(name: str) -> Callable[[Lab], Trained]:
    def row(lab: Lab) -> Trained:
        size, training = SHAPES[name](lab)
        return train(lab, name, size, lab.corpus.train, training)

    return row


SYSTEMS: dict[str, Callable[[Lab], Trained]] = {name: _row(name) for name in SHAPES}
