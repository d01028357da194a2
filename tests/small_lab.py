"""A small experiment, and options of commands for one as small."""

import dataclasses

import numpy as np

from seqkd_jax.data import Corpus
from seqkd_jax.settings import Filters, Plan, Size, Training

LEXICON = "anna ben cat dog eats fish goes home is just kind long".split()
ONE_EPOCH = Training(epochs=1, tokens_per_batch=64)
PLAN = Plan(
    teacher_size=Size(embed=8, hidden=8, dropout=0.0),
    student_size=Size(embed=4, hidden=4, dropout=0.0),
    teacher_training=dataclasses.replace(ONE_EPOCH, rate=0.1),
    student_training=ONE_EPOCH,
    fine_tuning=ONE_EPOCH,
    vocabulary="words",
    vocabulary_size=None,
    kd_beam=2,
    inter_beam=3,
    beams=(1, 2),
    filters=Filters(max_ratio=100, max_repeats=100),  # such a teacher repeats itself
)


def pairs(seed, count):
    """Sentences of four words, and their translation: the words backwards, in capitals."""
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(LEXICON, 4).tolist() for _ in range(count)]
    return [(" ".join(words), " ".join(words[::-1]).upper()) for words in drawn]


CORPUS = Corpus("backwards", "lower", "upper", pairs(0, 48), pairs(1, 8), pairs(2, 8))

# Options of commands.
SIZE = ["--embed", "6", "--hidden", "8", "--dropout", "0"]
SHORT = ["--epochs", "1", "--tokens-per-batch", "64", "--tokenize", "none"]
WORDS = ["--vocabulary", "words", "--vocabulary-size", "None"]
