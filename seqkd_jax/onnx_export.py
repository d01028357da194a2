"""Writing a student as an ONNX graph, which ``onnx_student.load_onnx`` runs. Floor 7.

The graph is the whole greedy search of the paper's model (``models.network``): ONNX's LSTM for each
layer of the encoder, and a Loop whose body is one step of the decoder. As in ``for_search``,
products of target words with the first layer's matrix, and of source words with those of attention,
are computed before the loop.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from .addresses import PathLike
from .base import BOS, EOS, PAD
from .errors import UsageError
from .export import vocabulary_record
from .files import atomic_write
from .onnx_student import FORMAT
from .sealed import check_output_file
from .settings import GREEDY, Parts, Search
from .trained import TrainedModel

OPSET, IR_VERSION = 18, 9
LIMITS = ("max_ratio", "max_extra", "max_len", "max_source")  # settings that need not be GREEDY's


def export_onnx(
    path: PathLike,
    trained: TrainedModel,
    search: Search = GREEDY,
    *,
    card: dict[str, Any] | None = None,
) -> int:
    """Writes a student as an ONNX file that searches greedily; returns its size in bytes.

    The translations are those of ``translate_texts`` with the same search. Inputs of the graph are
    ``src`` [B, S] int64, padded with 0, ``lengths`` [B] int32 and ``limits`` [B] int64, the maximum
    lengths of translations; its output is [T, B] int64. Vocabularies, limits and card are in the
    metadata.

    Args:
      path: the file to write.
      trained: an attention LSTM with the paper's parts, of any number of layers.
      search: of which only the limits of lengths may differ from greedy search.
      card: the model card, JSON.

    Raises:
      UsageError: the package ``onnx`` is missing, or the model or the search is of another kind.
      FileNotFoundError: the folder of ``path`` does not exist.
    """
    check_output_file(path)
    onnx = _package()
    config = trained.config
    greedy = replace(search, **{name: getattr(GREEDY, name) for name in LIMITS}) == GREEDY
    if not greedy or search.max_source is None:
        raise UsageError(
            "An ONNX file searches greedily, up to a limit: give --beam-size 1 and --max-source, "
            "and of the other options of a search only --max-ratio, --max-extra and --max-len."
        )
    encoder = (config.encoder_layers or config.layers, config.encoder_hidden or config.hidden)
    if trained.parts != Parts() or encoder != (config.layers, config.hidden):
        raise UsageError(
            "Only the paper's parts, with as many layers in the encoder as in the decoder, can be "
            "written as an ONNX file: export this model as a .seqkdx file."
        )
    about = {
        "card": card or {},
        "vocabularies": [
            vocabulary_record(vocab, side)
            for vocab, side in ((trained.src_vocab, "source"), (trained.tgt_vocab, "target"))
        ],
        "limits": [search.limit(tokens) for tokens in range(search.max_source + 1)],
    }
    model = _model(onnx, trained, config.layers)
    onnx.helper.set_model_props(
        model, {"format": FORMAT, "about": json.dumps(about, ensure_ascii=False)}
    )
    data = model.SerializeToString()
    atomic_write(path, data)
    return len(data)


def _package() -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise UsageError(
            "Files of the ONNX format need a package: pip install onnx onnxruntime."
        ) from None
    return onnx


class _Graph:
    """Nodes and constants of a graph that is being written; names begin with ``prefix``."""

    def __init__(self, onnx: Any, prefix: str):
        self.onnx, self.prefix = onnx, prefix
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Any) -> str:
        name = f"{self.prefix}c{len(self.constants)}"
        array = np.asarray(array, order="C")
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def ints(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"{self.prefix}n{len(self.nodes)}.{k}" for k in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def product(self, x: str, matrix: Any) -> str:
        return self.op("MatMul", x, self.constant(matrix))


def _model(onnx: Any, trained: TrainedModel, layers: int) -> Any:
    """Returns the graph: src [B, S], lengths [B], limits [B] -> tokens [T, B]."""
    helper, types = onnx.helper, onnx.TensorProto
    p = jax.tree.map(np.asarray, trained.params)
    graph = _Graph(onnx, "g")
    context, cells, hidden = _encoder(graph, p.encoder, layers)
    attention = p.decoder.attention
    keys = graph.product(context, attention.scores)
    values = graph.product(context, attention.context)
    padding = graph.op("Equal", "src", graph.constant(np.int64(PAD)))
    infinite, none = (graph.constant(np.float32(x)) for x in (-np.inf, 0))
    mask = graph.op("Where", padding, infinite, none)
    feed = graph.op("Sub", hidden[-1], hidden[-1])  # zeros
    token = graph.op("Add", graph.op("Sub", "limits", "limits"), graph.constant(np.int64(BOS)))
    done = graph.op("Less", "limits", graph.constant(np.int64(0)))  # all False
    most = graph.op("ReduceMax", "limits", keepdims=0)
    found = graph.op(
        "Loop",
        most,
        graph.constant(np.bool_(True)),
        token,
        done,
        *cells,
        *hidden,
        feed,
        outputs=4 + 2 * layers,
        body=_step(onnx, p, layers, (keys, values, mask)),
    )
    inputs = [
        helper.make_tensor_value_info("src", types.INT64, ["B", "S"]),
        helper.make_tensor_value_info("lengths", types.INT32, ["B"]),
        helper.make_tensor_value_info("limits", types.INT64, ["B"]),
    ]
    outputs = [helper.make_tensor_value_info(found[-1], types.INT64, ["T", "B"])]
    made = helper.make_graph(graph.nodes, "student", inputs, outputs, graph.constants)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def _encoder(graph: _Graph, p: Any, layers: int) -> tuple[str, list[str], list[str]]:
    """Returns the context [B, S, H], and for each layer the final c and h [B, H]."""
    embedded = graph.op("Gather", graph.constant(p.embedding), "src")
    tops, finals = [], []
    for column, direction in (("forward", "forward"), ("backward", "reverse")):
        stack = getattr(p, column)
        if not stack:
            continue
        x = graph.op("Transpose", embedded, perm=[1, 0, 2])
        for n in range(layers):
            x, h, c = _lstm(graph, x, stack[n], direction)
            finals.append((n, h, c))
        tops.append(x)
    context = graph.op("Transpose", _sum(graph, tops), perm=[1, 0, 2])
    hidden = [_sum(graph, [h for m, h, _ in finals if m == n]) for n in range(layers)]
    cells = [_sum(graph, [c for m, _, c in finals if m == n]) for n in range(layers)]
    return context, cells, hidden


def _lstm(graph: _Graph, x: str, layer: Any, direction: str) -> tuple[str, str, str]:
    """Returns a layer's outputs [S, B, H], and its final h and c [B, H]."""
    size = layer.recurrent.shape[0]
    bias = np.concatenate([_reordered(layer.bias), np.zeros(4 * size, np.float32)])
    found = graph.op(
        "LSTM",
        x,
        graph.constant(_reordered(layer.inputs).T[None]),
        graph.constant(_reordered(layer.recurrent).T[None]),
        graph.constant(bias[None]),
        "lengths",
        outputs=3,
        hidden_size=size,
        direction=direction,
    )
    y, h, c = found
    one, zero = graph.ints(1), graph.ints(0)
    return (graph.op("Squeeze", y, one), graph.op("Squeeze", h, zero), graph.op("Squeeze", c, zero))


def _reordered(matrix: np.ndarray) -> np.ndarray:
    """Returns the gates i, f, o, g of the last axis as ONNX has them: i, o, f, g."""
    i, f, o, g = np.split(matrix, 4, -1)
    return np.concatenate([i, o, f, g], -1)


def _sum(graph: _Graph, names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else graph.op("Add", *names)


def _step(onnx: Any, p: Any, layers: int, memory: tuple[str, str, str]) -> Any:
    """Returns the body of the loop: one step of greedy search for B sentences."""
    helper, types = onnx.helper, onnx.TensorProto
    graph, (keys, values, mask) = _Graph(onnx, "b"), memory
    decoder, size = p.decoder, p.decoder.layers[0].recurrent.shape[0]
    carried = [f"b.{kind}{n}" for kind in ("c", "h") for n in range(layers)] + ["b.feed"]
    cells, hidden, x = [], [], ""
    for n, layer in enumerate(decoder.layers):
        old_c, old_h = f"b.c{n}", f"b.h{n}"
        if n == 0:
            table = decoder.embedding @ layer.inputs + layer.bias
            words = graph.op("Gather", graph.constant(table), "b.token")
            state = graph.op("Concat", "b.feed", old_h, axis=1)
            matrix = np.concatenate([decoder.feed[0], layer.recurrent])
        else:
            words = graph.constant(layer.bias)
            state = graph.op("Concat", x, old_h, axis=1)
            matrix = np.concatenate([layer.inputs, layer.recurrent])
        gates = graph.op("Add", graph.product(state, matrix), words)
        i, f, o, g = graph.op("Split", gates, graph.ints(*[size] * 4), outputs=4, axis=1)
        i, f, o = (graph.op("Sigmoid", gate) for gate in (i, f, o))
        kept = graph.op("Mul", f, old_c)
        c = graph.op("Add", kept, graph.op("Mul", i, graph.op("Tanh", g)))
        x = graph.op("Mul", o, graph.op("Tanh", c))
        cells.append(c)
        hidden.append(x)
    scores = graph.op("MatMul", keys, graph.op("Unsqueeze", x, graph.ints(2)))
    scores = graph.op("Add", graph.op("Squeeze", scores, graph.ints(2)), mask)
    weights = graph.op("Unsqueeze", graph.op("Softmax", scores, axis=1), graph.ints(1))
    context = graph.op("Squeeze", graph.op("MatMul", weights, values), graph.ints(1))
    feed = graph.op("Tanh", graph.op("Add", context, graph.product(x, decoder.attention.query)))
    bias = np.array(p.generator.bias)
    bias[[PAD, BOS]] = -np.inf  # are never written
    logits = graph.op("Add", graph.product(feed, p.generator.kernel), graph.constant(bias))
    best = graph.op("ArgMax", logits, axis=1, keepdims=0)
    after = graph.op("Add", "b.i", graph.constant(np.int64(1)))
    end = graph.constant(np.int64(EOS))
    best = graph.op("Where", graph.op("Less", after, "limits"), best, end)
    token = graph.op("Where", "b.done", graph.constant(np.int64(PAD)), best)
    done = graph.op("Or", "b.done", graph.op("Equal", token, end))
    all_done = graph.op("ReduceMin", graph.op("Cast", done, to=types.INT32), keepdims=0)
    go_on = graph.op("Equal", all_done, graph.constant(np.int32(0)))
    written = graph.op("Identity", token)

    def floats(names: Sequence[str]) -> list[Any]:
        return [helper.make_tensor_value_info(n, types.FLOAT, ["B", size]) for n in names]

    def ids(name: str, kind: Any) -> Any:
        return helper.make_tensor_value_info(name, kind, ["B"])

    inputs = [
        helper.make_tensor_value_info("b.i", types.INT64, []),
        helper.make_tensor_value_info("b.cond", types.BOOL, []),
        ids("b.token", types.INT64),
        ids("b.done", types.BOOL),
        *floats(carried),
    ]
    outputs = [
        helper.make_tensor_value_info(go_on, types.BOOL, []),
        ids(token, types.INT64),
        ids(done, types.BOOL),
        *floats([*cells, *hidden, feed]),
        ids(written, types.INT64),
    ]
    return helper.make_graph(graph.nodes, "step", inputs, outputs, graph.constants)
