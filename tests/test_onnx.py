"""A student as an ONNX graph writes what the library's greedy search writes."""

import subprocess
import sys
import textwrap
import warnings

import pytest
from small import params
from test_export import LINES

from seqkd_jax.__main__ import main
from seqkd_jax.data import build_words, train_pieces
from seqkd_jax.decode.translation import translate_texts
from seqkd_jax.errors import SourceCut, UsageError
from seqkd_jax.models.attention_lstm import Config, model_of, network
from seqkd_jax.models.attentions import dot
from seqkd_jax.onnx_student import load_onnx
from seqkd_jax.recipes import compress
from seqkd_jax.settings import Parts, Search
from seqkd_jax.trained import TrainedModel

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from seqkd_jax.onnx_export import export_onnx  # noqa: E402

SEARCH = Search(beam_size=1, max_extra=3, max_ratio=1.0, max_source=16)
TEXT = ["abc abd bcd", "abc bcd dab", "dab abd abc bcd"] * 4


def student(kind="words", seed=0, **shape):
    if kind == "words":
        source, target = build_words(["a b c d e f g"]), build_words(["r s t u v w x y z"])
    else:
        source, target = (train_pieces(TEXT, 20, kind=kind) for _ in range(2))
    net = network(Config(source.size, target.size, embed=6, hidden=8, **shape))
    model = model_of(net)
    return TrainedModel(model, params(model, seed), source, target, net)


@pytest.mark.parametrize(
    "layers", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("bidirectional", [pytest.param(False, marks=pytest.mark.slow), True])
def test_it_writes_what_greedy_search_writes(tmp_path, layers, bidirectional):
    for seed in range(3):
        trained = student(seed=seed, layers=layers, bidirectional=bidirectional)
        size = export_onnx(tmp_path / "student.onnx", trained, SEARCH, card={"made": "here"})
        assert size == (tmp_path / "student.onnx").stat().st_size
        read = load_onnx(tmp_path / "student.onnx")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SourceCut)
            expected = [n.texts[0] for n in translate_texts(trained, LINES, SEARCH)]
            assert read.translate(LINES) == expected
            assert read.translate(LINES, batch=1) == expected
        assert len(set(expected)) > 3 and read.card == {"made": "here"}


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_it_splits_text_as_the_vocabulary_does(tmp_path, kind):
    trained = student(kind, layers=1)
    export_onnx(tmp_path / "student.onnx", trained, SEARCH)
    lines = [*TEXT[:3], "cab dad", ""]
    expected = [n.texts[0] for n in translate_texts(trained, lines, SEARCH)]
    assert load_onnx(tmp_path / "student.onnx").translate(lines) == expected


def test_long_sources_are_cut_with_a_warning(tmp_path):
    export_onnx(tmp_path / "student.onnx", student(layers=1), SEARCH)
    with pytest.warns(SourceCut, match="1 of 2 sources are longer than 16 tokens"):
        load_onnx(tmp_path / "student.onnx").translate(["a " * 20, "b"])


@pytest.mark.parametrize(
    "trained, search, message",
    [
        (student(layers=1), Search(beam_size=2), "searches greedily"),
        (student(layers=1), Search(beam_size=1, max_source=None), "up to a limit"),
        (student(layers=2, encoder_layers=1), SEARCH, "as many layers"),
    ],
)
def test_what_the_graph_does_not_do_is_refused(tmp_path, trained, search, message):
    with pytest.raises(UsageError, match=message):
        export_onnx(tmp_path / "student.onnx", trained, search)
    assert not list(tmp_path.iterdir())


def test_other_parts_are_refused(tmp_path):
    source = build_words(["a b"])
    net = network(Config(source.size, source.size, embed=6, hidden=8), attention=dot())
    model = model_of(net)
    parts = Parts(attention="dot")
    trained = TrainedModel(model, params(model), source, source, net, parts)
    with pytest.raises(UsageError, match="Only the paper's parts"):
        export_onnx(tmp_path / "student.onnx", trained, SEARCH)


def test_files_that_are_no_students_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.onnx: no such file"):
        load_onnx(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("not a graph")
    with pytest.raises(UsageError, match=r"text\.onnx: ONNX Runtime cannot read this file"):
        load_onnx(tmp_path / "text.onnx")
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    node = helper.make_node("Identity", ["x"], ["y"])
    shapes = (value("x", TensorProto.FLOAT, [1]), value("y", TensorProto.FLOAT, [1]))
    graph = helper.make_graph([node], "other", shapes[:1], shapes[1:])
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "other.onnx")
    with pytest.raises(UsageError, match=r"other\.onnx: not a student of this library"):
        load_onnx(tmp_path / "other.onnx")


def test_the_command_writes_it_and_a_process_without_jax_reads_it(tmp_path, capsys):
    compress(tmp_path / "model", student(layers=1), 8)
    out = str(tmp_path / "student.onnx")
    refused = ["export", str(tmp_path / "model"), "--out", out, "--weights", "int8"]
    assert main(refused) == 2 and "have no effect" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "model"), "--out", out, "--max-source", "16"]) == 2
    assert "searches greedily" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "model"), "--out", out]) == 0
    assert (tmp_path / "student.onnx.card.md").exists()
    code = """
        import sys
        sys.modules["jax"] = None
        from seqkd_jax.onnx_student import load_onnx
        print(load_onnx(sys.argv[1]).translate(["a b c"]))
    """
    run = [sys.executable, "-c", textwrap.dedent(code), out]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(load_onnx(out).translate(["a b c"]))
