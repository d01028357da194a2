"""The attention LSTM of Luong et al. (2015) as Kim & Rush (2016) used it. One sentence.

encoder   stacked LSTM over the source, one direction or two (summed)
bridge    every decoder layer starts from the encoder's final state of that layer
decoder   stacked LSTM; layer 1 reads [embedding of the last word ; h~ of the step before]
output    h~ = tanh(W_c [attention context ; h]),  logits = W_o h~ + b_o

Each of these is a choice of ``plan.Parts``: other attentions or none, other cells and connections
between layers, an encoder of two columns, a decoder that attends below its stack.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..base import BLOCK, Array, Hinted, Seq2Seq, shift_right
from ..errors import UsageError
from .attention import Memory
from .config import Config as Config
from .config import Inputs as Inputs
from .config import check
from .decoder import step as decoder_step
from .decoder import teacher_forced
from .dense import biased, dense
from .embedding import embed
from .encoder import encode as read_source
from .encoder import place, read
from .translator import DecoderState, init_translator
from .translator import Translator as Translator
from .translator import fixed as fixed_translator
from .translator import restrict as restrict
from .translator import trained as trained
from .translator import with_vectors as with_vectors


class Spelling:
    """The characters of each word of a vocabulary, ids [V, W] filled with PAD; equal by content."""

    def __init__(self, table: np.ndarray):
        self.table = table
        self._bytes = table.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spelling) and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)


@functools.lru_cache(maxsize=64)
def attention_lstm(config: Config, spelling: Spelling | None = None) -> Seq2Seq:
    """Builds the pure functions of the attention LSTM; equal settings give the same ones.

    Shapes: src [S] and tgt [T] are ids filled with PAD; hidden vectors are h~ [H]; logits [V].
    With features or characters a source token is a row of ids, src [S, C] (``data.inputs``);
    ``spelling`` gives the characters of target words, where those stand in for word vectors.
    Dropout happens exactly when a key is passed (sites of Zaremba et al. 2014, and h~).
    Parameters are a ``Translator``. Raises UsageError for parts that do not fit together.

    Source: Luong et al. 2015, section 3; Kim & Rush 2016, section 4.
    """
    check(config)
    if (spelling is not None) != bool(config.inputs.tgt_characters):
        raise UsageError("tgt_characters and a spelling of the target words go together.")
    table = None if spelling is None else spelling.table
    dtype = jnp.dtype(config.dtype)

    def cast(params: Translator) -> Translator:
        return jax.tree.map(lambda p: p.astype(dtype), params)

    def encode(params: Translator, src: Array, key: Array | None = None):
        return read_source(config, cast(params), src, key)

    def step(params: Translator, memory: Memory, state: DecoderState, token: Array):
        decoder = cast(params).decoder
        word = embed(decoder.embedding, token, table)
        return decoder_step(config, decoder, memory, state, word)

    def hidden(params: Translator, src: Array, tgt: Array, key: Array | None = None) -> Array:
        return teacher_forced(config, cast(params), src, tgt, key, table)[0]

    def project(params: Translator, hidden: Array) -> Array:
        kernel, bias = params.generator.kernel.astype(dtype), params.generator.bias
        hidden = hidden.astype(dtype)
        if isinstance(bias, tuple):  # a row of the kernel
            one = jnp.ones((*hidden.shape[:-1], 1), dtype)
            return dense(jnp.concatenate([hidden, one], axis=-1), kernel, jnp.float32)
        return biased(dense(hidden, kernel, jnp.float32), bias)

    def init(key: Array) -> Translator:
        return init_translator(config, key)

    def fixed(
        params: Translator, words: int | None = None, reader: Callable | None = None
    ) -> Translator:
        return fixed_translator(params, words, dtype, block=BLOCK if reader is project else 1)

    return Seq2Seq(init, encode, step, hidden, project, fixed)


def alignments(
    config: Config,
    params: Translator,
    src: Array,
    tgt: Array,
    spelling: Spelling | None = None,
) -> Array:
    """Returns the attention weights [T, S] while ``tgt`` is predicted from ``src`` (float32).

    ``spelling`` is the model's. Columns are the words as they stand in ``src``. Raises UsageError
    without an attention.
    """
    _require_attention(config)
    table = None if spelling is None else spelling.table
    weights = teacher_forced(config, params, src, tgt, None, table)[1]
    return weights[:, place(config, src)]


@functools.lru_cache(maxsize=64)
def attending(config: Config, spelling: Spelling | None = None) -> Seq2Seq:
    """Returns the model, its parameters unchanged, with ``project`` giving ``Hinted``.

    Beside the logits [V] stand the attention weights [S], for losses that guide them
    (``losses.alignment``). To search, use the model without them. Raises UsageError without an
    attention.

    Source: Chen et al. 2016 (guided alignment training), section 3.
    """
    model = attention_lstm(config, spelling)

    def hidden(params: Translator, src: Array, tgt: Array, key: Array | None = None):
        _require_attention(config)
        cast = jax.tree.map(lambda p: p.astype(config.dtype), params)
        table = None if spelling is None else spelling.table
        vectors, weights = teacher_forced(config, cast, src, tgt, key, table)
        return vectors, weights[:, place(config, src)]

    def project(params: Translator, hidden: tuple[Array, Array]) -> Any:
        return Hinted(model.project(params, hidden[0]), hidden[1])

    return model._replace(hidden=hidden, project=project)


def states(
    config: Config,
    params: Translator,
    src: Array,
    tgt: Array,
    spelling: Spelling | None = None,
) -> dict[str, Array]:
    """Returns what the model holds while it reads ``src`` and predicts ``tgt``, float32.

    Returns:
      ``encoder`` [S, M], its outputs at the words as they stand in ``src``; ``decoder_c`` and
      ``decoder_h`` [T, layers, H]; ``hidden`` [T, H]; ``attention`` [T, S] if there is one.

    Source: seq2seq-attn's ``extract_states``.
    """
    table = None if spelling is None else spelling.table
    model = attention_lstm(config, spelling)
    params = jax.tree.map(jnp.asarray, params)  # those of a loaded model are numpy arrays

    def step(state: DecoderState, word: Array):
        hidden, state = model.step(params, memory, state, word)
        return state, (hidden, *map(jnp.stack, zip(*state.layers, strict=True)))

    memory, state = model.encode(params, src)
    _, (hidden, c, h) = jax.lax.scan(step, state, shift_right(tgt))
    context = read(config, params.encoder, src)[0][place(config, src)]
    found = {"encoder": context, "decoder_c": c, "decoder_h": h, "hidden": hidden}
    if config.parts.attention != "none":
        weights = teacher_forced(config, params, src, tgt, None, table)[1]
        found["attention"] = weights[:, place(config, src)]
    return {name: x.astype(jnp.float32) for name, x in found.items()}


def _require_attention(config: Config) -> None:
    if config.parts.attention == "none":
        raise UsageError('This model has attention="none": there are no weights to look at.')
