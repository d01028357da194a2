"""From settings to networks: the only file that reads the strings of ``Parts``. Floor 6."""

from typing import Any

from .contrib import deep_att
from .contrib.characters import spelt_words
from .contrib.factors import FactoredVocabulary, factored
from .data import Vocabulary
from .errors import UsageError
from .models import attentions, connections
from .models.attention import above, general
from .models.attention_lstm import network
from .models.blocks import Reader
from .models.config import Config
from .models.layers import lstm, summed
from .models.lower_attention import lower_attention
from .models.network import Network
from .models.reading_order import Order
from .settings import Parts, Size

# Vocabularies other than of words and pieces, for ``load_vocabulary``.
VOCABULARIES = {FactoredVocabulary.kind: FactoredVocabulary.of_record}


def config_of(size: Size, src_vocab: int, tgt_vocab: int) -> Config:
    """Returns the sizes of a model with vocabularies of these numbers of entries."""
    sizes = {name: value for name, value in vars(size).items() if name != "parts"}
    return Config(src_vocab, tgt_vocab, **sizes)


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
    joins = {
        "sum": summed,
        "concat": connections.concatenated,
        "interleaved": deep_att.interleaved,
    }
    cells = {"lstm": lstm, "peephole": deep_att.peephole}
    connect = {
        "plain": connections.plain,
        "skip": connections.skip,
        "residual": connections.residual,
        "fast-forward": deep_att.fast_forward,
    }
    if parts.join == "interleaved" and not config.bidirectional:
        raise UsageError('join="interleaved" needs bidirectional=True: it has two columns.')
    blocks: dict[str, Any] = {
        "cell": cells[parts.cell](),
        "connections": connect[parts.connections](),
        "reader": _reader(config, parts),
        "columns": joins[parts.join]() if config.bidirectional else summed(),
    }
    if parts.bridge == "zero":
        blocks["bridge"] = deep_att.from_zero()
    src_vocab, tgt_vocab = vocabularies
    if isinstance(src_vocab, FactoredVocabulary):
        blocks["src_embedding"] = factored(src_vocab, config.embed)
    if parts.target_characters:
        blocks["tgt_embedding"] = spelt_words(tgt_vocab)
    if "attention" in own:
        own = {"reader": above(own["attention"], parts.input_feeding)} | own
        del own["attention"]
    blocks["order"] = Order(parts.reverse_source, parts.start_symbols)
    return network(config, **(blocks | own))


def _reader(config: Config, parts: Parts) -> Reader:
    scores = {
        "dot": attentions.dot,
        "general": general,
        "concat": attentions.concat,
        "location": lambda: attentions.location(parts.max_source),
    }
    alignments = {
        "global": lambda attention, window: attention,
        "local-m": attentions.local_m,
        "local-p": attentions.local_p,
    }
    if parts.attention == "none":
        if parts.alignment != "global":
            raise UsageError(
                f'alignment="{parts.alignment}" needs an attention, but attention is "none".'
            )
        reader = deep_att.fixed_context() if parts.attends == "input" else Reader()
    else:
        attention = alignments[parts.alignment](scores[parts.attention](), parts.window)
        at_output = above(attention, parts.input_feeding)
        reader = deep_att.at_input(attention) if parts.attends == "input" else at_output
    if not parts.lower_attention:
        return reader
    if not 2 <= parts.lower_attention <= config.layers:
        raise UsageError(
            f"lower_attention is {parts.lower_attention}; it must name a decoder layer from "
            f"2 to layers, {config.layers}."
        )
    if parts.connections == "fast-forward":
        raise UsageError("lower_attention cannot be combined with fast-forward connections.")
    return lower_attention(reader, parts.lower_attention)
