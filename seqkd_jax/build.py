"""From settings to networks: the only file that reads the strings of ``Parts``. Floor 6."""

from collections.abc import Callable
from typing import Any

from .contrib import deep_att
from .contrib.characters import spelt_words
from .contrib.factors import FactoredVocabulary, factored
from .data import Vocabulary
from .errors import UsageError
from .models import attentions, connections
from .models.attention import above, general
from .models.attention_lstm import network
from .models.blocks import Attention, Reader
from .models.config import Config
from .models.layers import lstm, summed
from .models.lower_attention import lower_attention
from .models.network import Network
from .models.reading_order import Order
from .settings import Parts, Size

# Vocabularies other than of words and pieces, for ``load_vocabulary``.
VOCABULARIES = {FactoredVocabulary.kind: FactoredVocabulary.of_record}

# The blocks that ``Parts`` names.
SCORES: dict[str, Callable[[Parts], Attention]] = {
    "dot": lambda parts: attentions.dot(),
    "general": lambda parts: general(),
    "concat": lambda parts: attentions.concat(),
    "location": lambda parts: attentions.location(parts.max_source),
}
ALIGNMENTS: dict[str, Callable[[Attention, int], Attention]] = {
    "global": lambda attention, window: attention,
    "local-m": attentions.local_m,
    "local-p": attentions.local_p,
}
CELLS = {"lstm": lstm, "peephole": deep_att.peephole}
CONNECTIONS = {
    "plain": connections.plain,
    "skip": connections.skip,
    "residual": connections.residual,
    "fast-forward": deep_att.fast_forward,
}
JOINS = {"sum": summed, "concat": connections.concatenated, "interleaved": deep_att.interleaved}


def config_of(size: Size, src_vocab: int, tgt_vocab: int) -> Config:
    """Returns the sizes of a model with vocabularies of these numbers of entries.

    Raises UsageError if the size has parts that do not fit together.
    """
    _check(size.parts, size.layers, size.bidirectional)
    sizes = {name: value for name, value in vars(size).items() if name != "parts"}
    return Config(src_vocab, tgt_vocab, **sizes)


def _check(parts: Parts, layers: int, bidirectional: bool) -> None:
    if parts.attention == "none" and parts.alignment != "global":
        raise UsageError(
            f'alignment="{parts.alignment}" needs an attention, but attention is "none".'
        )
    if parts.join == "interleaved" and not bidirectional:
        raise UsageError('join="interleaved" needs bidirectional=True: it has two columns.')
    if parts.lower_attention and not 2 <= parts.lower_attention <= layers:
        raise UsageError(
            f"lower_attention is {parts.lower_attention}; it must name a decoder layer from 2 to "
            f"layers, {layers}."
        )
    if parts.lower_attention and parts.connections == "fast-forward":
        raise UsageError("lower_attention cannot be combined with fast-forward connections.")


def build(
    config: Config,
    parts: Parts,
    vocabularies: tuple[Vocabulary | None, Vocabulary | None] = (None, None),
    **own: Any,
) -> Network:
    """Returns the network that ``parts`` describes; UsageError if parts do not fit together.

    Args:
      config: sizes.
      parts: names of the blocks.
      vocabularies: source and target, which decide how tokens are embedded; None for word vectors.
      **own: blocks that replace those that ``parts`` names.
    """
    _check(parts, config.layers, config.bidirectional)
    src_vocab, tgt_vocab = vocabularies
    attention = own.pop("attention", None)
    if attention is None and parts.attention != "none":
        scores = SCORES[parts.attention](parts)
        attention = ALIGNMENTS[parts.alignment](scores, parts.window)
    if parts.attends == "input":
        reader = deep_att.at_input(attention) if attention else deep_att.fixed_context()
    else:
        reader = above(attention, parts.input_feeding) if attention else Reader()
    if parts.lower_attention:
        reader = lower_attention(reader, parts.lower_attention)
    blocks: dict[str, Any] = {
        "cell": CELLS[parts.cell](),
        "connections": CONNECTIONS[parts.connections](),
        "columns": JOINS[parts.join](),
        "reader": reader,
        "order": Order(parts.reverse_source, parts.start_symbols),
    }
    if parts.bridge == "zero":
        blocks["bridge"] = deep_att.from_zero()
    if isinstance(src_vocab, FactoredVocabulary):
        blocks["src_embedding"] = factored(src_vocab, config.embed)
    if parts.target_characters:
        blocks["tgt_embedding"] = spelt_words(tgt_vocab)
    return network(config, **(blocks | own))
