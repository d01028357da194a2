"""A model under other ids: the same words, in another order."""

from typing import Any

import jax.numpy as jnp

from ..base import Array, Params, Seq2Seq, offering, specialized


def renumbered(model: Seq2Seq, src_ids: Array, tgt_ids: Array) -> Seq2Seq:
    """Returns the model as one of another vocabulary that numbers the same pieces differently.

    It reads and predicts the other vocabulary's ids; parameters are unchanged. So a teacher can
    teach, translate and be cached for a student whose vocabularies are permutations of its own.

    Args:
      model: with ids of its own.
      src_ids: its id of each other source id, [source vocabulary] (``data.renumbering``).
      tgt_ids: its id of each other target id, [V].
    """
    src_ids, tgt_ids = jnp.asarray(src_ids, jnp.int32), jnp.asarray(tgt_ids, jnp.int32)

    def encode(params: Params, src: Array, key: Array | None = None):
        return model.encode(params, src_ids[src], key)

    def step(params: Params, memory: Any, state: Any, token: Array):
        return model.step(params, memory, state, tgt_ids[token])

    def hidden(params: Params, src: Array, tgt: Array, key: Array | None = None):
        return model.hidden(params, src_ids[src], tgt_ids[tgt], key)

    def project(params: Params, hidden: Any) -> Array:
        return model.project(params, hidden)[tgt_ids]

    def specialize(params: Params, words: int | None, multiple: int) -> tuple[Seq2Seq, Params]:
        del multiple  # the other vocabulary's logits are picked from those of this one
        faster, params = specialized(model, params, words)
        if faster not in known:
            known[faster] = renumbered(faster, src_ids, tgt_ids)
        return known[faster], params

    other = offering(Seq2Seq(model.init, encode, step, hidden, project), specialize)
    known = {model: other}  # so that a search of the same faster model is compiled once
    return other
