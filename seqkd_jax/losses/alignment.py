"""Guided alignment: attention weights are pulled to word alignments from elsewhere.

    model = with_attention_output(config)
    loss = weighted((0.5, of_logits(nll)), (0.5, of_hidden(alignment_mse)))
    step = make_train_step(model, tx, loss)
    links = read_alignments("train.align", pairs)
    for batch in with_alignments(batches(...), links):      # Example.taught
        state, metrics = step(state, batch, key)

Each position is guided by the links of the word that is predicted there; one without links (the end
of the sentence among them) is left alone.
"""

import jax.numpy as jnp

from ..base import Array


def alignment_mse(weights: Array, target: Array, alignment: Array) -> Array:
    """Squared distance of attention weights [S] and alignment [S] (Chen et al. 2016, section 3.2).

    Summed over the source, where seq2seq-attn takes the mean: a long sentence counts no less.
    """
    del target
    return _where_linked(alignment, ((weights - alignment) ** 2).sum())


def alignment_ce(weights: Array, target: Array, alignment: Array) -> Array:
    """Cross-entropy of attention weights [S] to the alignment [S], nats (Chen et al. 2016, 3.2)."""
    del target
    return _where_linked(alignment, -(alignment * jnp.log(jnp.maximum(weights, 1e-9))).sum())


def _where_linked(alignment: Array, loss: Array) -> Array:
    return jnp.where(alignment.sum() > 0, loss, 0.0)
