"""One file to serve: it translates as the model does, with jax and numpy alone."""

import dataclasses
import functools
import json
import lzma
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest
from small import params
from small_folder import write_small

from seqkd_jax import exported as reader
from seqkd_jax.__main__ import main
from seqkd_jax.base import traced_for
from seqkd_jax.compress.deep import expand_shared_weights, share_weights
from seqkd_jax.data import build_words, load_pieces, train_pieces
from seqkd_jax.decode.translation import translate_texts
from seqkd_jax.errors import SourceCut, UsageError
from seqkd_jax.export import export_model, packed_weights
from seqkd_jax.exported import load_exported, read_weights
from seqkd_jax.model_folder import load_model
from seqkd_jax.models.attention_lstm import Config, attention_lstm
from seqkd_jax.models.inference import FusedGenerator
from seqkd_jax.sealed import seal, unseal
from seqkd_jax.search import for_search
from seqkd_jax.settings import Search
from seqkd_jax.trained import TrainedModel

LINES = [
    "a b c d e f g",
    "",
    "b",
    "zzz a zzz",
    "<unk> c",
    "  a\tb  ",
    "g f e d c b a g f e d c b a g f",
    "a a a a a a a a a a a a a a a a a a a a a a a",  # longer than the limit
    *["c d"] * 12,  # more than the smaller shapes hold
]
SEARCH = Search(beam_size=3, n_best=2, max_extra=3, max_ratio=1.0, max_source=16)


def trained(source, target, **config):
    model = attention_lstm(Config(source.size, target.size, embed=6, hidden=8, **config))
    return TrainedModel(model, params(model), source, target)


@functools.cache
def words():
    source, target = build_words(["a b c d e f g"]), build_words(["r s t u v w x y z"])
    return trained(source, target, layers=2, bidirectional=True)


@functools.cache
def pieces(kind):
    vocab = train_pieces(LINES, 30, kind=kind)
    return trained(vocab, vocab)


def exported_to(path, model, **settings):
    export_model(path, model, SEARCH, **{"platforms": ("cpu",), **settings})
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The model of words for all platforms, which most tests only read."""
    path = tmp_path_factory.mktemp("exported") / "student.seqkdx"
    platforms = ("cpu", "cuda", "tpu")
    return exported_to(path, words(), card={"name": "small"}, platforms=platforms)


def require_same(exported, model, atol=1e-5):
    """Both translate alike: same tokens and texts, scores to ``atol``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SourceCut)
        ours, theirs = exported.nbest(LINES), translate_texts(model, LINES, SEARCH)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.tokens == other.tokens
        assert mine.texts == other.texts
        np.testing.assert_allclose(mine.scores, other.scores, atol=atol)
        np.testing.assert_allclose(mine.log_probs, other.log_probs, atol=atol)
    assert [mine.texts[0] for mine in ours[:4]] == exported.translate(LINES[:4])


def test_the_file_translates_as_the_model_does(file):
    exported = load_exported(file)
    require_same(exported, words())
    assert exported.translate([]) == [] and exported.translate([""]) == [""]
    assert exported.card == {"name": "small"}
    with pytest.warns(SourceCut, match="longer than 16 tokens .* 1, the first of them line 8"):
        exported.translate(LINES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bpe", pytest.param("unigram", marks=pytest.mark.slow)])
def test_pieces_translate_as_the_model_does(tmp_path, kind):
    require_same(load_exported(exported_to(tmp_path / "x", pieces(kind))), pieces(kind))


REFUSING = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        parts = name.split(".")
        if parts[0] in ("flax", "optax", "orbax", "sentencepiece", "tyro", "sacrebleu", "tqdm"):
            raise ImportError(name)
        if parts[0] == "seqkd_jax" and parts[1:2] not in ALLOWED:
            raise ImportError(name)

ALLOWED = [[], *([n] for n in "exported tokens coded errors files addresses sealed".split())]
sys.meta_path.insert(0, Refuse())
from seqkd_jax.exported import load_exported
try:
    import seqkd_jax.models
except ImportError:
    print(*load_exported(sys.argv[1]).translate(sys.argv[2:]), sep="|")
"""


def test_jax_and_numpy_are_enough(file):
    run = [sys.executable, "-c", REFUSING, str(file), *LINES[:6]]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    ours = [n.texts[0] for n in translate_texts(words(), LINES[:6], SEARCH)]
    assert done.stdout == "|".join(ours) + "\n"


def rounded(array, form):
    """The weights as each form stores them, computed in another way."""
    if form == "bfloat16":
        return np.asarray(jax.lax.reduce_precision(array, 8, 7))
    if form == "int8" and array.ndim == 2:
        columns = [column / max(np.abs(column).max(), 1e-30) * 127 for column in array.T]
        steps = np.stack([np.round(column) for column in columns], 1)
        return np.float32(steps * np.abs(array).max(0) / 127)
    return array


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8", "codes"])
def test_weights_are_rounded_as_their_form_says(form):
    model = words()
    named, data = packed_weights(model.params, form)
    read = read_weights("x", form, named, memoryview(data))
    if form == "codes":
        shared = share_weights(model.params, 8)
        want = jax.tree.leaves(expand_shared_weights(shared.codes, shared.codebooks))
    else:
        want = [rounded(np.asarray(x), form) for x in jax.tree.leaves(model.params)]
    for ours, expected in zip(read, want, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_a_file_of_int8_translates_as_the_rounded_model_does(tmp_path):
    model = words()
    path = exported_to(tmp_path / "x", model, weights="int8")
    less = jax.tree.map(lambda x: rounded(np.asarray(x), "int8"), model.params)
    require_same(load_exported(path), model.with_params(less))
    assert load_exported(path).shapes == ((1, 16), (16, 16), (512, 16))


def test_a_file_for_other_platforms_is_refused(tmp_path, monkeypatch):
    path = exported_to(tmp_path / "x", pieces("bpe"), platforms=("tpu",))
    with pytest.raises(UsageError, match="exported for tpu, but this machine computes on cpu"):
        load_exported(path)


@pytest.mark.parametrize("at", [3, 30, 0.3, 0.6, 0.95])
def test_damage_is_found(file, tmp_path, at):
    data = bytearray(file.read_bytes())
    data[at if at >= 1 else int(at * len(data))] ^= 4
    path = tmp_path / "damaged"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="damaged"):
        load_exported(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UsageError, match="damaged"):
        load_exported(path)
    with pytest.raises(FileNotFoundError):
        load_exported(tmp_path / "none")


@pytest.mark.parametrize(
    "change",
    [
        {"programs": []},
        {"programs": [{"platforms": ["cpu"]}]},
        {"weights": "int4"},
        {"weights": "bfloat16"},
        {"sections": {}},
        {"sections": {"about": [9, 1 << 40], "programs": [9, 9], "weights": [9, None]}},
        {"sections": {"about": [-9, 9], "programs": [9, 9], "weights": [9, None]}},
        {"sections": [1]},
        {"sections": {"about": 3}},
    ],
)
def test_a_header_that_was_made_up_is_refused(file, tmp_path, change):
    header, body = unseal(file, file.read_bytes(), reader.FORMAT)
    header = {n: v for n, v in header.items() if n not in ("format", "sha256")} | change
    path = tmp_path / "made-up"
    path.write_bytes(seal(reader.FORMAT, header, bytes(body), reader.ALIGN))
    with pytest.raises(UsageError, match="cannot be read|exported for"):
        load_exported(path)


def changed(file, path, section, change):
    """The file with one section changed and all digests right, as no damage leaves it."""
    header, body = unseal(file, file.read_bytes(), reader.FORMAT)
    header = {n: v for n, v in header.items() if n not in ("format", "sha256")}
    stored, parts, start = header["sections"], {}, 0
    for name, (size, unpacked) in stored.items():
        parts[name] = bytes(body[start : start + size])
        start += size + -size % reader.ALIGN
        if name == section:
            data = change(lzma.decompress(parts[name]) if unpacked is not None else parts[name])
            parts[name] = lzma.compress(data) if unpacked is not None else data
            stored[name] = [len(parts[name]), len(data) if unpacked is not None else None]
    body = b"".join(x.ljust(len(x) + -len(x) % reader.ALIGN, b"\0") for x in parts.values())
    path.write_bytes(seal(reader.FORMAT, header, body, reader.ALIGN))
    return path


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("about", lambda data: b"{" + data),
        ("about", lambda data: b"[]"),
        ("about", lambda data: data.replace(b'"words"', b'"verbs"')),
        ("programs", lambda data: b""),
        ("programs", lambda data: data[1:] + b" "),
        ("programs", lambda data: data.replace(b"dot_general", b"dot_special")),
        ("weights", lambda data: data[:-4]),
    ],
)
def test_content_that_was_made_up_is_refused(file, tmp_path, section, change):
    assert load_exported(changed(file, tmp_path / "same", section, bytes)).shapes
    with pytest.raises(UsageError, match="cannot be read"):
        load_exported(changed(file, tmp_path / "made-up", section, change))


def test_weights_of_no_size_are_refused():
    with pytest.raises(ValueError, match="weights in 4 bytes"):
        read_weights("x", "codes", [("w", (1 << 40,))], memoryview(b"1234"))
    with pytest.raises(ValueError, match="after the last array"):
        read_weights("x", "float32", [("w", (1,))], memoryview(bytes(8)))


def test_what_cannot_be_exported_is_refused_before_anything_is_written(tmp_path):
    model = pieces("bpe")
    (tmp_path / "m.model").write_bytes(model.src_vocab.model)
    elsewhere = load_pieces(tmp_path / "m.model")
    path = tmp_path / "x"
    with pytest.raises(UsageError, match="source vocabulary has a SentencePiece model from elsew"):
        export_model(path, dataclasses.replace(model, src_vocab=elsewhere))
    with pytest.raises(UsageError, match="set --max-source"):
        export_model(path, model, dataclasses.replace(SEARCH, max_source=None))
    with pytest.raises(UsageError, match="at least one platform"):
        export_model(path, model, SEARCH, platforms=())
    broken = jax.tree.map(lambda x: x.at[(0,) * x.ndim].set(np.nan), model.params)
    with pytest.raises(UsageError, match="not finite"):
        export_model(path, model.with_params(broken), SEARCH)
    assert not path.exists()


def test_the_command_writes_the_file_and_its_card(tmp_path, capsys):
    folder, out = write_small(tmp_path / "small"), tmp_path / "student.seqkdx"
    settings = [
        "--weights",
        "codes",
        "--platforms",
        "cpu",
        "--max-source",
        "16",
        "--beam-size",
        "2",
    ]
    assert main(["export", str(folder), "--out", str(out), *settings]) == 0
    assert f"{out}: {out.stat().st_size:,} bytes" in capsys.readouterr().out
    exported, model = load_exported(out), load_model(folder)
    for translate in (exported.translate, functools.partial(translate_texts, model)):
        with pytest.raises(UsageError, match="a single string"):
            translate("a b")
    assert main(["export", str(folder), "--out", str(out), *settings]) == 0  # replaces its own
    capsys.readouterr()
    for name in "notes.seqkdx", "notes.safetensors", "notes.onnx":
        (tmp_path / name).write_text("A text that somebody wants to keep.\n")
        assert main(["export", str(folder), "--out", str(tmp_path / name)]) == 2
        assert "something else than this command writes" in capsys.readouterr().err
        assert (tmp_path / name).read_text().startswith("A text")
    assert main(["export", str(folder), "--out", str(tmp_path / "student.bin")]) == 2
    assert "the ending of the name says" in capsys.readouterr().err
    lines = ["aß b c", "", "d e f g h"]
    search = Search(beam_size=2, max_source=16)
    assert exported.translate(lines) == [n.texts[0] for n in translate_texts(model, lines, search)]
    assert exported.search == vars(search)
    assert json.loads((tmp_path / "student.seqkdx.card.json").read_text()) == exported.card
    text = (tmp_path / "student.seqkdx.card.md").read_text()
    assert exported.card["model"]["digest"] == model.digest and model.digest in text
    assert "Weights: codes; for cpu;" in text


@pytest.mark.parametrize("platform", ["gpu", pytest.param("tpu", marks=pytest.mark.slow)])
def test_the_form_for_another_platform_translates_alike(platform):
    model, texts = words(), [n.texts for n in translate_texts(words(), LINES[:5], SEARCH)]
    with traced_for(platform):
        _, faster = for_search(model.model, model.params)
        assert not isinstance(faster.generator, FusedGenerator)  # it would round the bias
        assert [n.texts for n in translate_texts(model, LINES[:5], SEARCH)] == texts
    assert isinstance(for_search(model.model, model.params)[1].generator, FusedGenerator)
