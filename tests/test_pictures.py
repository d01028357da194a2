"""Pictures: each looks as its committed image, and draws the numbers that it is given.

``python tests/test_pictures.py`` draws the images in tests/pictures anew; look at them then.
"""

import functools
import json
import math
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import font_manager, pyplot
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from PIL import Image, ImageFilter
from small_folder import SRC, TGT

from seqkd_jax.data.grammar import sample_pairs, targets
from seqkd_jax.decode import NBest, trace_search, translate_texts
from seqkd_jax.diagnosis import accuracy_by_frequency, bleu_by_length, next_tokens, next_words
from seqkd_jax.errors import UsageError
from seqkd_jax.evaluation import Decoding, Evaluation
from seqkd_jax.models.attention_lstm import Config, model_of, network
from seqkd_jax.models.inspection import alignments
from seqkd_jax.report import pictures
from seqkd_jax.report.compressed import CompressedRow
from seqkd_jax.report.pictures.beam import tree_of_search
from seqkd_jax.report.pictures.fonts import families
from seqkd_jax.report.pictures.style import line_style
from seqkd_jax.report.table import Row
from seqkd_jax.scoring import Scorer
from seqkd_jax.search import beam_loop, beam_search, mean_per_token, trace
from seqkd_jax.settings import Search
from seqkd_jax.train.loop import Progress
from seqkd_jax.trained import TrainedModel

IMAGES = Path(__file__).parent / "pictures"
# Of 255, the root of the mean square over all pixels. matplotlib 3.9 and 3.11 differ by up to 3.7,
# two pictures of the same kind with a line more by 5.
TOLERANCE = 4.5
LOOK = {"font.family": ["DejaVu Sans"], "font.size": 8, "text.hinting": "none", "axes.linewidth": 1}

REFERENCES = ["a b c d e", "a b", "f g h i j k l m n o p q", "a g h i j"] * 3
OUTPUTS = {
    "baseline": ["a b x d e", "a x", "f g h x j k l m n o x q", "a g x x x"] * 3,
    "seq-kd": ["a b c d e", "a b", "f g h i j k l m x o p q", "a g h i x"] * 3,
    "word-kd": ["a b x d e", "a b", "f g h i j k x x x o p q", "a g h x x"] * 3,
}
NBEST = NBest(0, ("der Hund schläft", "der Hund ruht", "ein Hund schläft"), (), (-0.5, -1.25, -2.0))
LOG_PROBS = {
    "teacher": np.log(np.linspace(0.02, 0.35, 200) ** 1.5),
    "seq-kd": np.log(np.linspace(0.1, 0.98, 200)),
}
ATTENTION = np.array([[0.8, 0.1, 0.1, 0.0], [0.1, 0.7, 0.1, 0.1], [0.0, 0.1, 0.2, 0.7]])
MEASURED = {
    name: {
        "calibration": [
            {"confidence": c, "accuracy": c**power, "share": 0.2} for c in (0.1, 0.3, 0.5, 0.7, 0.9)
        ],
        "calibration_error": 0.02 * power,
        "loss_by_position": [
            {"from": 0, "to": 1, "loss": 0.5 * power, "tokens": 9},
            {"from": 1, "to": 4, "loss": 0.8 * power, "tokens": 9},
            {"from": 4, "to": None, "loss": 0.9 * power, "tokens": 9},
        ],
        "reproduces": 0.5 / power,
        "greedy_is_beam": 0.45,
        "search_errors": 0.2 * power,
        "repeats": 0.003,
        "too_short": 0.01 * power,
        "truth": {"kl": 1.5 * power, "right": 0.9, "mode": 0.2 * power, "wrong": 0.1},
    }
    for name, power in (("teacher", 1), ("baseline", 1.3), ("seq-kd", 2))
}
CORPORA = {
    "original": {"complexity": 2.1},
    "distilled": {"complexity": 1.2, "faithfulness": 0.6},
}
SCORER = Scorer("none")


def evaluation(bleu, speed, parameters):
    decodings = {k: Decoding(bleu + k / 5, 60.0, speed / k, 9 * speed / k) for k in (1, 5)}
    return Evaluation(decodings, 2.0, 0.1, parameters, "BLEU", "chrF", 1000)


ROWS = [
    Row("teacher", (evaluation(38, 900, 11_000_000),), {}),
    Row("baseline", (evaluation(33, 3900, 1_300_000), evaluation(32, 3900, 1_300_000)), {}),
    Row("seq-kd", (evaluation(36, 4100, 1_300_000), evaluation(35, 4100, 1_300_000)), {}),
]
COMPRESSED = [
    CompressedRow("teacher", 0.0, 11_000_000, evaluation(38, 900, 11_000_000)),
    CompressedRow(
        "pruned-50",
        0.5,
        650_000,
        evaluation(35, 4000, 1_300_000),
        bytes=520_000,
        compressed=evaluation(34.5, 4000, 1_300_000),
    ),
]


@functools.cache
def small_model(seed=0):
    net = network(Config(SRC.size, TGT.size, embed=6, hidden=8, layers=1))
    model = model_of(net)
    params = jax.tree.map(lambda x: 8 * jnp.asarray(x), model.init(jax.random.key(seed)))
    return TrainedModel(model, params, SRC, TGT, net)


def write_log(folder, bleu):
    """A log as ``train.fit`` writes it, killed while it wrote the last line."""
    folder.mkdir(parents=True)
    lines = []
    for n, value in enumerate(bleu, 1):
        train = {"loss": 5 / n, "gradient_norm": 1.0, "tokens_per_second": 9e3}
        valid = {"perplexity": 9 / n, "bleu": value, "score": value, "example": ["a", "b", "c"]}
        lines += [{"step": 100 * n - 50, "train": train}]
        lines += [{"step": 100 * n, "epoch": n, "seconds": 1.5, "valid": valid}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 100', encoding="utf-8")
    return folder


RUNS = {"teacher": (20, 30, 35, 36), "baseline": (15, 24, 29, 30), "seq-kd": (22, 30, 34)}


def curves(ax, folder, names=tuple(RUNS)):
    pictures.training_curves([write_log(folder / name, RUNS[name]) for name in names], ax=ax)


WORDS = {"teacher": {"du": 0.5, "Sie": 0.4, "ihr": 0.1}, "seq-kd": {"du": 0.97, "</s>": 0.03}}
TARGETS = {"du $5 bist": 0.6, "Sie $5 sind": 0.4}
DRAWN = {
    "training": curves,
    "attention": lambda ax, _: pictures.attention_matrix(
        ATTENTION, ["the", "$5", "dog$", "."], ["der", "$5", "Hund$"], ax
    ),
    "nbest": lambda ax, _: pictures.nbest_tree(NBEST, ax=ax),
    "next_word": lambda ax, _: pictures.next_word(WORDS, {"du": 0.6, "Sie": 0.4}, ax=ax),
    "distributions": lambda ax, _: pictures.distributions(
        TARGETS, {"student": dict.fromkeys(TARGETS, math.log(0.45))}, ax=ax
    ),
    "mode_mass": lambda ax, _: pictures.mode_mass(LOG_PROBS, ax=ax),
    "mode_mass_log": lambda ax, _: pictures.mode_mass(LOG_PROBS, log=True, ax=ax),
    "speed": lambda ax, _: pictures.bleu_by_speed(ROWS, ax=ax),
    "size": lambda ax, _: pictures.bleu_by_size([*COMPRESSED, *ROWS[1:]], ax=ax),
    "lengths": lambda ax, _: pictures.differences_by_length(
        OUTPUTS, REFERENCES, SCORER, edges=(3, 10), ax=ax
    ),
    "frequencies": lambda ax, _: pictures.differences_by_frequency(
        OUTPUTS, REFERENCES, SCORER, edges=(4, 7), ax=ax
    ),
    "reliability": lambda ax, _: pictures.reliability(MEASURED, ax),
    "positions": lambda ax, _: pictures.position_losses(MEASURED, ax),
    "outputs": lambda ax, _: pictures.output_shares(MEASURED, ax),
    "truth": lambda ax, _: pictures.truth_shares(MEASURED, ax),
    "corpora": lambda ax, _: pictures.corpus_complexity(CORPORA, ax),
    "oracle": lambda ax, _: pictures.oracle_curve({1: 0.39, 5: 0.48, 35: 0.57}, ax),
}


def drawn(name, folder, path):
    """Draws a picture into a file, in a fixed place: layouts differ between versions."""
    with matplotlib.rc_context(LOOK):
        figure = Figure(figsize=(5, 3), dpi=60)
        ax = figure.add_axes((0.16, 0.22, 0.8, 0.7))
        DRAWN[name](ax, folder)
        figure.savefig(path, metadata={"Software": None})
    return path


def difference(name, path):
    """How a picture differs from the committed one; None if it does not.

    Both are made smaller and soft before, as versions of matplotlib set letters a pixel apart.
    """
    soft = []
    for n, each in enumerate((IMAGES / f"{name}.png", path)):
        image = Image.open(each).convert("RGB").filter(ImageFilter.GaussianBlur(2)).reduce(2)
        soft.append(path.with_name(f"soft-{n}.png"))
        image.save(soft[-1])
    return compare_images(*map(str, soft), TOLERANCE)


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_looks_as_it_did(name, tmp_path):
    assert difference(name, drawn(name, tmp_path, tmp_path / "now.png")) is None


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("training", lambda ax, folder: curves(ax, folder, ("teacher", "seq-kd"))),
        ("reliability", lambda ax, _: pictures.reliability(dict([*MEASURED.items()][:2]), ax)),
        ("speed", lambda ax, _: pictures.bleu_by_speed(ROWS[:2], ax=ax)),
        ("nbest", lambda ax, _: pictures.nbest_tree(NBest(0, NBEST.texts[:2]), ax=ax)),
    ],
)
def test_a_picture_that_lacks_something_is_noticed(name, draw, tmp_path, monkeypatch):
    monkeypatch.setitem(DRAWN, name, draw)
    path = drawn(name, tmp_path, tmp_path / "now.png")
    assert difference(name, path) is not None


def new_axes():
    return Figure().subplots()


def texts(ax):
    return [text.get_text() for text in ax.texts]


# Trainings.


def test_a_curve_has_what_was_logged(tmp_path):
    folder = write_log(tmp_path / "run", (10.0, 12.5))
    assert pictures.read_curve(folder) == ([100, 200], [10.0, 12.5])
    assert pictures.read_curve(folder, "loss") == ([50, 150], [5.0, 2.5])
    other = write_log(tmp_path / "other" / "run", (11.0,))
    ax = pictures.training_curves([folder, other], "perplexity", ax=new_axes())
    assert [line.get_ydata().tolist() for line in ax.lines] == [[9.0, 4.5], [9.0]]
    # Two folders of one name are told apart by their paths.
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [str(folder), str(other)]


def test_a_log_that_cannot_be_drawn_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="metrics.jsonl"):
        pictures.read_curve(tmp_path)
    path = write_log(tmp_path / "run", (10.0,)) / "metrics.jsonl"
    with pytest.raises(UsageError, match=r"metrics.jsonl: has no comet; it has bleu, grad.*loss, "):
        pictures.read_curve(path.parent, "comet")
    path.write_text('{"step": 50, "train": {"loss": 1.5}}\n[50]\n')
    with pytest.raises(UsageError, match=r"metrics.jsonl:2: not a line of a training's log"):
        pictures.read_curve(path.parent, "loss")


def test_live_curves_are_drawn_anew_in_the_same_place(tmp_path, monkeypatch):
    shown = []

    class Handle:
        def update(self, image):
            shown.append(("again", image.data))

    def display(image, display_id):
        assert display_id
        shown.append(("first", image.data))
        return Handle()

    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", display)
    figures = pyplot.get_fignums()
    redraw = pictures.live_curves([tmp_path / "run", tmp_path / "not begun"])
    redraw(Progress(), 0, {})  # nothing is logged yet
    write_log(tmp_path / "run", (10.0,))
    redraw(Progress(), 100, {"bleu": 10.0})
    (tmp_path / "run" / "metrics.jsonl").unlink()
    (tmp_path / "run").rmdir()
    write_log(tmp_path / "run", (10.0, 20.0))
    redraw(Progress(), 200, {"bleu": 20.0})
    assert [when for when, _ in shown] == ["first", "again"]
    assert all(data.startswith(b"\x89PNG") for _, data in shown) and shown[0][1] != shown[1][1]
    assert pyplot.get_fignums() == figures


def test_live_curves_need_a_notebook(tmp_path):
    with pytest.raises(UsageError, match="need a notebook, and this is not one"):
        pictures.live_curves([tmp_path])


# Attention, and the fonts of its words.


def test_the_map_shows_the_models_attention_between_words():
    trained = small_model()
    ax = pictures.attention_map(trained, "b c d h", "über äh", new_axes())
    src, tgt = SRC.encode("b c d h"), TGT.encode("über äh")
    weigh = jax.jit(functools.partial(alignments, trained.network))
    weights = weigh(trained.params, jnp.array(src), jnp.array(tgt))
    np.testing.assert_allclose(ax.images[0].get_array(), weights)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["b", "c", "d", "h"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["über", "äh"]
    np.testing.assert_allclose(np.asarray(weights).sum(1), 1, rtol=1e-5)


def write_font(path, name, characters):
    """A font with a box for each character."""
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for place in ((100, 700), (900, 700), (900, 0)):
        pen.lineTo(place)
    pen.closePath()
    glyphs = [".notdef", *(f"uni{ord(c):04X}" for c in characters)]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(glyphs)
    font.setupCharacterMap({ord(c): f"uni{ord(c):04X}" for c in characters})
    font.setupGlyf({glyph: pen.glyph() for glyph in glyphs})
    font.setupHorizontalMetrics({glyph: (1000, 0) for glyph in glyphs})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": name, "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)
    return str(path)


@pytest.fixture
def installed(monkeypatch):
    """Fonts that were installed after matplotlib made its list."""
    fonts = []
    brought = [e for e in font_manager.fontManager.ttflist if "mpl-data" in e.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", brought)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: fonts)
    return fonts


def test_a_font_is_found_for_words_of_any_script(installed, tmp_path):
    for name, has in (("Aaa", "犬"), ("Zzz", "犬がベ"), ("Broken", "")):
        installed.append(write_font(tmp_path / f"{name}.ttf", name, has or "x"))
    (tmp_path / "Broken.ttf").write_bytes(b"no font")
    usual = list(matplotlib.rcParams["font.family"])
    assert families(["Hund", "über"]) == usual
    # One font that has them all, before two that have some.
    assert families(["Hund", "犬 が"]) == [*usual, "Zzz"]
    ax = pictures.attention_matrix(ATTENTION[:2, :2], ["犬", "が"], ["a", "b"], new_axes())
    ax.figure.savefig(tmp_path / "now.png")  # warns of each character without a glyph
    assert ax.get_xticklabels()[0].get_fontfamily() == [*usual, "Zzz"]


def test_fonts_made_for_text_come_first(installed, tmp_path):
    for name in ("Fancy", "Noto Sans CJK JP"):
        installed.append(write_font(tmp_path / f"{name}.ttf", name, "犬が"))
    assert families(["犬が"])[-1] == "Noto Sans CJK JP"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [("这只狗", r"3 of .*狗.*apt-get install fonts-noto-cjk"), ("หมา", r"3 of .*fonts-noto\)")],
)
def test_without_a_font_the_reader_is_told_which_to_install(text, remedy, installed):
    with pytest.warns(UserWarning, match=remedy):
        assert families([text]) == list(matplotlib.rcParams["font.family"])


# The beam.


@pytest.mark.parametrize("settings", [{}, {"length_penalty": mean_per_token, "n_best": 1}])
def test_the_trace_of_a_search_ends_with_its_result(settings):
    table = jnp.log(jax.nn.softmax(3 * jax.random.normal(jax.random.key(0), (7, 7))))

    def step(state, token):
        return table[token], state

    given = {"beam_size": 3, "max_len": 5, **settings}
    *_, last = trace(beam_loop(step, (), **given))
    found = beam_search(step, (), **given)
    np.testing.assert_array_equal(last.finished.tokens, found.tokens)
    np.testing.assert_allclose(last.finished.scores, found.scores, rtol=1e-6)


@pytest.mark.slow
def test_each_prefix_of_the_tree_has_the_models_log_probability(monkeypatch):
    trained, search = small_model(), Search(beam_size=3, n_best=3, max_extra=2)
    model, params, src = trained.model, trained.params, jnp.array(SRC.encode("b c d"))

    @jax.jit
    def of_tokens(tgt):
        logits = jax.vmap(model.project, (None, 0))(params, model.hidden(params, src, tgt))
        return jax.nn.log_softmax(logits)[jnp.arange(len(tgt)), tgt]

    steps = trace_search(trained, "b c d", search)
    root = tree_of_search(steps, TGT)
    (found,) = translate_texts(trained, ["b c d"], search)
    ids = {word: n for n, word in enumerate(TGT.words)}
    seen = []

    def visit(node, words):
        if words:
            tgt = [ids[word] for word in words] + [0] * (8 - len(words))
            own = of_tokens(jnp.array(tgt))[: len(words)].sum()
            assert node.log_prob == pytest.approx(float(own), rel=1e-4)
        text = TGT.decode([ids[word] for word in words])
        leads = [text == " ".join(t.split()[: len(words)]) for t in found.texts]
        assert (node.kind == "dropped from the beam") == (not any(leads))
        seen.append((node.rank, text))
        for longer in node.next.values():
            visit(longer, [*words, longer.word])

    visit(root, [])
    ranked = sorted((rank, text) for rank, text in seen if rank)
    assert ranked == list(enumerate(found.texts, 1))
    assert "dropped from the beam" in {node.kind for node in root.next.values()}
    # The search is not compiled twice.
    monkeypatch.setattr("seqkd_jax.report.pictures.beam.trace_search", lambda *_: steps)
    shown = texts(pictures.beam_tree(trained, "b c d", search, new_axes()))
    for rank, score in enumerate(found.scores, 1):
        assert f"{rank}. score {score:.2f}" in shown


def test_a_list_is_a_tree_of_its_shared_beginnings():
    shown = texts(pictures.nbest_tree(NBEST, ax=new_axes()))
    assert Counter(shown)["der"] == 1 and Counter(shown)["Hund"] == 2
    assert [text for text in shown if "score" in text] == [
        "1. score -0.50",
        "2. score -1.25",
        "3. score -2.00",
    ]
    no_scores = NBest(0, ("a b", "a", "a b"))  # an equal text is no hypothesis of its own
    assert [t for t in texts(pictures.nbest_tree(no_scores, ax=new_axes())) if "." in t] == [
        "1. ",
        "2. ",
    ]
    with pytest.raises(UsageError, match="no tokens, only texts"):
        pictures.nbest_tree(NBEST, TGT, ax=new_axes())


# Probabilities.


def test_the_next_tokens_are_those_of_the_model():
    trained, source = small_model(), "b c d"
    found = next_tokens(trained, source, "über")
    src, tgt = (jnp.array(vocab.encode(t)) for vocab, t in ((SRC, source), (TGT, "über äh r")))

    @jax.jit
    def logits(params):
        hidden = trained.model.hidden(params, src, tgt)
        return jax.vmap(trained.model.project, (None, 0))(params, hidden)

    expected = jax.nn.softmax(logits(trained.params)[1])  # after one word of three
    assert tuple(found) == TGT.words
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-5)
    with pytest.raises(UsageError, match="source has no words"):
        next_tokens(trained, " ")


def test_the_true_next_words_are_conditional():
    source = sample_pairs(seed=3, n=1)[0][0]
    truth = targets(source)
    start = max(truth, key=truth.get).split()[:2]
    found = next_words(truth, " ".join(start))
    inside = {t: p for t, p in truth.items() if t.split()[:2] == start}
    for word, probability in found.items():
        share = sum(p for t, p in inside.items() if [*t.split(), "</s>"][2] == word)
        assert probability == pytest.approx(share / sum(inside.values()))
    assert sum(found.values()) == pytest.approx(1)
    assert next_words({"a b": 1.0}, "a b") == {"</s>": 1.0}
    with pytest.raises(UsageError, match="No target begins with 'x'"):
        next_words(truth, "x")


def test_words_stand_side_by_side_with_all_others_below():
    ax = pictures.next_word(WORDS, {"Sie": 0.25, "du": 0.75}, most=2, ax=new_axes())
    assert [label.get_text() for label in ax.get_yticklabels()] == ["du", "Sie", "all others"]
    truth, teacher, student = ([bar.get_width() for bar in bars] for bars in ax.containers)
    assert truth == [0.75, 0.25, 0.0]
    assert teacher == pytest.approx([0.5, 0.4, 0.1])
    assert student == pytest.approx([0.97, 0.0, 0.03])


@pytest.mark.parametrize("log", [False, True])
def test_all_sentences_are_in_the_histogram(log):
    values = {"a": [-100.0, -1.0, 0.0], "b": [-0.5] * 4}
    ax = pictures.mode_mass(values, log=log, ax=new_axes())
    assert [sum(line.get_ydata()) for line in ax.lines] == [3, 4]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a (mean 46%)", "b (mean 61%)"]


# What quality costs.


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_nothing_beats_a_point_of_the_front(points):
    beaten = [any(x <= a and y <= b and (x, y) != (a, b) for a, b in points) for x, y in points]
    front = pictures.pareto_front(points)
    assert sorted(front) == [n for n, is_beaten in enumerate(beaten) if not is_beaten]
    assert [points[n][0] for n in front] == sorted(points[n][0] for n in front)


def front_of(ax):
    (line,) = [line for line in ax.lines if line.get_label() == "Pareto front"]
    return line.get_xydata().tolist()


def test_the_front_runs_through_the_measured_means():
    assert front_of(pictures.bleu_by_speed(ROWS, new_axes())) == [
        [180.0, 39.0],
        [900.0, 38.2],
        [4100.0, 35.7],
    ]
    ax = pictures.bleu_by_size([*COMPRESSED, *ROWS[1:]], ax=new_axes())
    assert front_of(ax) == [[520_000, 34.7], [5_200_000, 35.7], [44_000_000, 38.2]]
    # Of two seeds: BLEU 36.2 and 35.2, of standard deviation 0.71.
    bars = [c for c in ax.containers if c.get_label() == "seq-kd"][0].lines[2][0]
    (low, high) = bars.get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((35.7 - 0.5**0.5, 35.7 + 0.5**0.5))


# Where systems differ.


def test_accuracy_by_frequency_is_that_of_compare_mt():
    references = (
        "the cat sat on the mat|a dog ran|the the the cat|rare words here now today yes|a b c"
    )
    outputs = "the the cat on a mat|a dog dog ran|the cat the|rare words there now today|x b a"
    training = ["the the the the cat cat dog", "a a a on words mat sat b"]
    found = accuracy_by_frequency(
        outputs.split("|"), references.split("|"), SCORER, training, edges=(1, 2, 4)
    )
    # Of compare-mt 0.2.10: FreqWordBucketer, which counts 7, 6, 4 and 5 words of references.
    assert [(b.label, b.size) for b in found] == [("0", 7), ("1", 6), ("2-3", 4), (">=4", 5)]
    assert [b.score for b in found] == pytest.approx([800 / 13, 250 / 3, 800 / 9, 800 / 9])


def test_bleu_by_length_is_the_bleu_of_these_sentences():
    found = bleu_by_length(OUTPUTS["baseline"], REFERENCES, SCORER, edges=(3, 5, 10))
    assert [(b.label, b.size) for b in found] == [("<3", 3), ("5-9", 6), (">=10", 3)]
    middle = [n for n, r in enumerate(REFERENCES) if 5 <= len(r.split()) < 10]
    inside = ([lines[n] for n in middle] for lines in (OUTPUTS["baseline"], REFERENCES))
    assert found[1].score == SCORER.bleu(*inside)
    # Words are those that BLEU counts.
    assert Scorer("13a", lowercase=True).words("Ein Hund, hier. ") == "ein hund , hier .".split()
    (bucket,) = bleu_by_length(["Hund, hier."], ["Hund, hier."], Scorer("13a"), edges=(4, 5))
    assert bucket.label == "4"


@pytest.mark.parametrize(
    ("draw", "measure"),
    [
        (pictures.differences_by_length, bleu_by_length),
        (pictures.differences_by_frequency, accuracy_by_frequency),
    ],
)
def test_bars_are_differences_to_the_first_system(draw, measure):
    ax = draw(OUTPUTS, REFERENCES, SCORER, edges=(3, 7), ax=new_axes())
    scores = {
        name: [b.score for b in measure(lines, REFERENCES, SCORER, edges=(3, 7))]
        for name, lines in OUTPUTS.items()
    }
    for bars, name in zip(ax.containers, ("seq-kd", "word-kd"), strict=True):
        expected = np.subtract(scores[name], scores["baseline"])
        np.testing.assert_allclose([bar.get_height() for bar in bars], expected)
    with pytest.raises(UsageError, match="at least two systems; there are 1"):
        draw({"a": REFERENCES}, REFERENCES, SCORER)
    with pytest.raises(UsageError, match="1 outputs and 12 references"):
        draw({"a": ["x"], "b": ["x"]}, REFERENCES, SCORER)
    with pytest.raises(UsageError, match="must increase"):
        draw(OUTPUTS, REFERENCES, SCORER, edges=(3, 3))


# What diagnose measured.


def test_all_that_was_measured_is_drawn_and_no_figure_stays_open(tmp_path):
    figures = pyplot.get_fignums()
    record = {"models": MEASURED, "corpora": CORPORA, "oracle": {"1": 0.4, "5": 0.5}}
    pictures.draw_diagnosis(record, tmp_path)
    names = {"reliability", "positions", "outputs", "oracle", "corpora", "truth"}
    assert {path.stem for path in tmp_path.iterdir()} == names
    assert pyplot.get_fignums() == figures


def test_the_shares_of_the_truth_add_up():
    ax = pictures.truth_shares(MEASURED, new_axes())
    for bars in ax.containers:
        assert sum(bar.get_height() for bar in bars) == pytest.approx(100)


def test_no_two_systems_look_alike_without_colour():
    styles = [line_style(n) for n in range(16)]
    looks = [(style["marker"], style["linestyle"]) for style in styles[:8]]
    assert len(set(looks)) == 8
    assert len({tuple(style.values()) for style in styles}) == 16


if __name__ == "__main__":
    import sys
    import tempfile

    for each in sys.argv[1:] or DRAWN:
        with tempfile.TemporaryDirectory() as temporary:
            drawn(each, Path(temporary), IMAGES / f"{each}.png")
