"""A model's folder that is written in a moment: untrained, with words beyond ASCII."""

import jax
import jax.numpy as jnp

from seqkd_jax.data import build_words
from seqkd_jax.models.attention_lstm import Config, model_of, network
from seqkd_jax.recipes import compress
from seqkd_jax.trained import TrainedModel

SRC = build_words(["aß b c d e f g h"])
TGT = build_words(["über äh œuvre 文 ŝaŭ δ r s t"])


def write_small(folder, seed=0):
    """Writes it; returns what was written, its weights on 255 values."""
    config = Config(SRC.size, TGT.size, embed=6, hidden=8, layers=1)
    net = network(config)
    model = model_of(net)
    params = jax.tree.map(lambda x: 8 * x, model.init(jax.random.key(seed)))
    trained = TrainedModel(model, jax.tree.map(jnp.asarray, params), SRC, TGT, net)
    compress(folder, trained, 8)
    return folder
