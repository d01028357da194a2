"""The paper's Table 2: greedy students against the beam of a teacher."""

from ..settings import Timing
from .rows import MODELS, Models, Row
from .timing import Record, ratio, speed
from .turns import in_turns

LENGTH = 25  # words of a source, and tokens decoded for it


def measure_table2(timing: Timing, models: Models = MODELS, length: int = LENGTH) -> list[Record]:
    """Measures greedy students against the teacher with a beam of 5, one sentence at a time.

    V = 50,004; parameters are random, sources have ``length`` random words, and as many tokens are
    decoded for each: real lengths would depend on how well each model was trained. The value is
    source words per second. A shortlist, which the paper does not have, allows 50 target words for
    each source word. Source: Kim & Rush 2016, Table 2, on a CPU.
    """
    work = ("4x1000", 5, 0), ("big", 1, 0), ("2x300", 1, 0), ("big", 1, 50), ("2x300", 1, 50)
    rows = [
        Row("decode", model, models[model], 1, beam, length, short) for model, beam, short in work
    ]
    names = ["teacher 4x1000, beam 5", "student 2x500, greedy", "student 2x300, greedy"]
    names += [f"{name}, shortlist" for name in names[1:]]
    records, measured = [], in_turns(rows, timing)
    for name, paper, one in zip(names, (7.9, 63.6, 104.3, 63.6, 104.3), measured, strict=True):
        words = speed(name, "source words/s", [length * value for value in one.values])
        compared = ratio(one.values, measured[0].values) | {"paper_ratio": paper / 7.9}
        records.append(one.record() | words | compared)
    return records
