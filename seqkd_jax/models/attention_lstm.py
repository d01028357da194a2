"""The attention LSTM of Luong et al. (2015) as Kim & Rush (2016) used it. One sentence.

encoder   stacked LSTM over the source, one direction or two (summed)
bridge    every decoder layer starts from the encoder's final state of that layer
decoder   stacked LSTM; layer 1 reads [embedding of the last word ; h~ of the step before]
output    h~ = tanh(W_c [attention context ; h]),  logits = W_o h~ + b_o

Each of these is a choice of ``plan.Parts``: other attentions or none, other cells and connections
between layers, an encoder of two columns, a decoder that attends below its stack.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ..base import Array, Seq2Seq
from .attention import Memory
from .config import Config as Config
from .config import Inputs as Inputs
from .config import check
from .decoder import step as decoder_step
from .decoder import teacher_forced
from .dense import dense
from .embedding import embed
from .encoder import encode as read_source
from .encoder import place
from .translator import DecoderState, init_translator
from .translator import Translator as Translator
from .translator import restrict as restrict


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
    """Builds the five pure functions of the attention LSTM; equal settings give the same ones.

    Shapes: src [S] and tgt [T] are ids filled with PAD; hidden vectors are h~ [H]; logits [V].
    With features or characters a source token is a row of ids, src [S, C] (``data.inputs``);
    ``spelling`` gives the characters of target words, where those stand in for word vectors.
    Dropout happens exactly when a key is passed (sites of Zaremba et al. 2014, and h~).
    Parameters are a ``Translator``. Raises ValueError for parts that do not fit together.

    Source: Luong et al. 2015, section 3; Kim & Rush 2016, section 4.
    """
    check(config)
    if (spelling is not None) != bool(config.inputs.tgt_characters):
        raise ValueError("tgt_characters and a spelling of the target words go together.")
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
        kernel = params.generator.kernel.astype(dtype)
        return dense(hidden.astype(dtype), kernel, jnp.float32) + params.generator.bias

    return Seq2Seq(lambda key: init_translator(config, key), encode, step, hidden, project)


def alignments(
    config: Config,
    params: Translator,
    src: Array,
    tgt: Array,
    spelling: Spelling | None = None,
) -> Array:
    """Returns the attention weights [T, S] while ``tgt`` is predicted from ``src`` (float32).

    ``spelling`` is the model's. Columns are the words as they stand in ``src``. Raises ValueError
    without an attention.
    """
    if config.parts.attention == "none":
        raise ValueError('This model has attention="none": there are no weights to look at.')
    table = None if spelling is None else spelling.table
    weights = teacher_forced(config, params, src, tgt, None, table)[1]
    return weights[:, place(config, src)]
