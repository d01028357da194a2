"""Models with renumbered vocabularies: the same words under other ids."""

from typing import Any

import jax.numpy as jnp

from ..base import Array, Params, Seq2Seq, specialized, with_specialize


def renumbered(model: Seq2Seq, src_ids: Array, tgt_ids: Array) -> Seq2Seq:
    """Returns the model with new ids for the same words; its parameters stay the same.

    The result reads and predicts the new ids. With it a teacher can teach, translate and be cached
    for a student whose vocabularies are permutations of the teacher's.

    Args:
      model: any model, with ids of its own.
      src_ids: the model's id for each new source id, [source vocabulary] (``data.renumbering``).
      tgt_ids: the model's id for each new target id, [V].
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

    def specialize(params: Params, num_words: int | None, multiple: int) -> tuple[Seq2Seq, Params]:
        del multiple  # ``project`` picks V logits, so padding would be lost
        faster, params = specialized(model, params, num_words)
        if faster not in cache:
            cache[faster] = renumbered(faster, src_ids, tgt_ids)
        return cache[faster], params

    result = with_specialize(Seq2Seq(model.init, encode, step, hidden, project), specialize)
    cache = {model: result}  # so that a search with the same faster model is compiled once
    return result
