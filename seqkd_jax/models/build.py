"""From settings to values: the one place in the models that reads strings."""

from ..errors import UsageError
from . import attentions
from .attention import above, general
from .blocks import Blocks, Reader
from .config import Config
from .connections import concatenated, mapped_states, plain, residual, skip
from .deep_att import at_input, fast_forward, fixed_context, from_zero, interleaved, peephole
from .layers import from_states, lstm, summed
from .lower_attention import lower_attention


def build(config: Config) -> Blocks:
    """Returns the blocks that ``config.parts`` names; UsageError if they do not fit together."""
    parts = config.parts
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
        reader = fixed_context() if parts.attends == "input" else Reader()
    else:
        attention = alignments[parts.alignment](scores[parts.attention](), parts.window)
        at_output = above(attention, parts.input_feeding)
        reader = at_input(attention) if parts.attends == "input" else at_output
    if parts.lower_attention:
        if not 2 <= parts.lower_attention <= config.layers:
            raise UsageError(
                f"lower_attention is {parts.lower_attention}; it must name a decoder layer from "
                f"2 to layers, {config.layers}."
            )
        if parts.connections == "fast-forward":
            raise UsageError("lower_attention cannot be combined with fast-forward connections.")
        reader = lower_attention(reader, parts.lower_attention)
    if parts.join == "interleaved" and not config.bidirectional:
        raise UsageError('join="interleaved" needs bidirectional=True: it has two columns.')
    joins = {"sum": summed, "concat": concatenated, "interleaved": interleaved}
    connections = {
        "plain": plain,
        "skip": skip,
        "residual": residual,
        "fast-forward": fast_forward,
    }
    columns = joins[parts.join]() if config.bidirectional else summed()
    wide = config.encoder_hidden * (1 if columns == summed() else 2) != config.hidden
    states = mapped_states() if wide else from_states()
    return Blocks(
        cell={"lstm": lstm, "peephole": peephole}[parts.cell](),
        connections=connections[parts.connections](),
        reader=reader,
        columns=columns,
        bridge={"state": states, "zero": from_zero()}[parts.bridge],
    )
