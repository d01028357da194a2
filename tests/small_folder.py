"""A model's folder that is written in a moment: untrained, with words beyond ASCII."""

import jax
import jax.numpy as jnp

from seqkd_jax.data import build_words
from seqkd_jax.models.attention_lstm import Config, attention_lstm
from seqkd_jax.recipes import compress
from seqkd_jax.train.model_folder import Trained

SRC = build_words(["aß b c d e f g h"])
TGT = build_words(["über äh œuvre 文 ŝaŭ δ r s t"])


def write_small(folder, seed=0):
    """Writes it; returns what was written, its weights on 255 values."""
    config = Config(SRC.size, TGT.size, embed=6, hidden=8, layers=1)
    model = attention_lstm(config)
    params = jax.tree.map(lambda x: 8 * x, model.init(jax.random.key(seed)))
    trained = Trained(config, model, jax.tree.map(jnp.asarray, params), SRC, TGT)
    compress(folder, trained, 8)
    return folder
