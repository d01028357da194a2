"""What people and programs see: progress, messages, tables, help."""

import csv
import gc
import inspect
import io
import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from small_folder import write_small
from test_scoring import ONE, E

import seqkd_jax.progress as progress
from seqkd_jax import console, parsing
from seqkd_jax.__main__ import main
from seqkd_jax.compiled import make_room
from seqkd_jax.evaluation import Evaluation
from seqkd_jax.parallel import pmap_rows
from seqkd_jax.progress import Bar
from seqkd_jax.report import Row, Truth, table
from seqkd_jax.report.documents import TABLE
from seqkd_jax.report.layout import WIDTH, Column, render
from seqkd_jax.scoring import Difference
from seqkd_jax.settings import Layout, Messages

ROOT = Path(__file__).parent.parent


class Stream(io.StringIO):
    """Standard error: a terminal, or a pipe."""

    def __init__(self, terminal: bool):
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def listening(monkeypatch):
    """Gives standard error as another stream; bars are drawn when the test says so."""
    monkeypatch.setattr(progress, "_tick", lambda ref, over: None)

    def listen(terminal: bool) -> Stream:
        monkeypatch.setattr(sys, "stderr", stream := Stream(terminal))
        return stream

    yield listen
    console.speak(Messages())


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved on."""

    class Clock:
        now = 1000.0

        def __call__(self) -> float:
            return self.now

    monkeypatch.setattr(progress, "monotonic", moved := Clock())
    return moved


def work(clock) -> Bar:
    """A training that compiled for 100 s, and made 10 of its 250 steps in 10 s."""
    bar = Bar(desc="student", total=250)
    with progress.compiling("64 x 24 and 64 x 26 tokens"):
        clock.now += 100
        bar.tick()
    for _ in range(10):
        clock.now += 1
        bar.update()
    bar.show(loss=3.21456, BLEU=12.3)
    bar.tick()
    return bar


# Progress.


def test_a_terminal_has_a_bar_that_says_what_is_compiled_and_how_long_it_will_take(
    listening, clock
):
    stream = listening(terminal=True)
    with work(clock):
        shown = stream.getvalue().split("\r")
    assert any("compiling for 64 x 24 and 64 x 26 tokens" in line for line in shown)
    assert re.search(r"student:   4%\|.*\| 10/250 \[.*<04:00,  1.00step/s, loss ", shown[-1])
    assert "loss 3.215, BLEU 12.3]" in shown[-1] and max(map(len, shown)) <= 80
    assert stream.getvalue().endswith("\n")  # the line stays


def test_a_pipe_has_a_line_every_half_minute(listening, clock):
    stream = listening(terminal=False)
    with work(clock) as bar:
        first, *rest = stream.getvalue().splitlines()
        assert first == (
            "student: 0 % (0 of 250 steps), 01:40 so far, compiling for 64 x 24 and 64 x 26 tokens"
        )
        assert not rest  # the next line is due 30 s after this one
        clock.now += 19
        bar.tick()
        assert not stream.getvalue().splitlines()[1:]
        clock.now += 1
        bar.tick()
    second, last = stream.getvalue().splitlines()[1:]
    assert second == (
        "student: 4 % (10 of 250 steps), 0.333 steps/s, 12:00 left, 02:10 so far, loss 3.215, "
        "BLEU 12.3"
    )
    assert last == second and "\r" not in stream.getvalue()


def test_a_short_work_writes_nothing_into_a_pipe(listening):
    stream = listening(terminal=False)
    assert list(Bar(range(3), desc="comparing")) == [0, 1, 2]
    assert stream.getvalue() == ""


def test_a_bar_that_waits_is_not_drawn_before(listening, clock):
    stream = listening(terminal=True)
    with Bar(desc="making vocabularies", wait=2) as bar:
        clock.now += 1
        bar.tick()
        assert stream.getvalue() == ""
        clock.now += 1
        bar.tick()
        assert "making vocabularies [" in stream.getvalue()


def test_a_work_within_another_is_named_in_its_line(listening, clock):
    stream = listening(terminal=False)
    with Bar(desc="diagnosing", total=4, unit="part") as bar:
        bar.update()
        with Bar(desc="scoring", total=200, unit="pair") as part:
            part.update(50)
            clock.now += 30
            bar.tick()
        with progress.compiling("8 x 3 tokens"):
            clock.now += 30
            bar.tick()
    said = stream.getvalue().splitlines()
    assert said[0].endswith("left, 00:30 so far, scoring 25 %") and "scoring" not in said[1]
    assert said[1].endswith(", compiling for 8 x 3 tokens")
    assert not any(line.startswith("scoring") for line in said)


def test_a_work_that_was_dropped_hides_no_other(listening):
    listening(terminal=False)
    dropped = Bar(desc="dropped")
    assert dropped.form == "lines" and Bar(desc="part").form == "none"
    del dropped
    gc.collect()
    with Bar(desc="next") as bar:
        assert bar.form == "lines"


def test_what_an_earlier_start_has_done_counts_for_no_rate(listening, clock):
    listening(terminal=False)
    with Bar(desc="decoding", total=100) as bar:
        clock.now += 50
        bar.begin(40)
        assert bar.rate is None
        clock.now += 5
        bar.update(10)
        assert bar.n == 50 and bar.rate == 2


def test_a_line_goes_above_the_bar(listening):
    stream = listening(terminal=True)
    with Bar(desc="student", total=3):
        console.note("validated")
    assert "\rvalidated\n" in stream.getvalue()


def test_programs_are_announced_once_for_each_shape(listening, monkeypatch):
    import numpy as np

    told = []

    def compiling(shapes):
        told.append(shapes)
        return original(shapes)

    original = progress.compiling
    monkeypatch.setattr(progress, "compiling", compiling)
    run = pmap_rows(lambda params, rows: params + rows)
    for length in (3, 3, 5, 3):
        run(np.float32(1), np.zeros((8, length), np.float32))
    assert told == ["8 x 3 tokens", "8 x 5 tokens"]
    assert not make_room(share=1.1)
    if sys.platform == "linux":  # a program that was dropped is compiled, and announced, again
        assert make_room(share=0.0)
        np.testing.assert_array_equal(run(np.float32(1), np.zeros((8, 3), np.float32)), 1)
        assert told[2:] == ["8 x 3 tokens"]


# Messages.


def test_lines_of_json_can_be_read(listening, clock):
    console.speak(Messages(log_json=True))
    stream = listening(terminal=True)
    with work(clock):
        console.note("48 pairs kept")
    console.warn("too weak")
    console.error("no such file")
    lines = list(map(json.loads, stream.getvalue().splitlines()))
    events = [line["event"] for line in lines]
    assert events == ["progress", "progress", "compiled", "note", "progress", "warning", "error"]
    last = lines[4]
    assert {name: last[name] for name in ("what", "done", "total", "unit", "rate", "loss")} == {
        "what": "student",
        "done": 10,
        "total": 250,
        "unit": "step",
        "rate": 1.0,
        "loss": 3.21456,
    }
    assert last["seconds_left"] == 240 and lines[1]["doing"].startswith("compiling for 64 x 24")
    assert [line["message"] for line in lines[-2:]] == ["too weak", "no such file"]


def test_quiet_leaves_warnings_and_errors(listening, clock):
    console.speak(Messages(quiet=True))
    stream = listening(terminal=True)
    with work(clock):
        console.note("48 pairs kept")
    console.warn("too weak")
    assert stream.getvalue() == "seqkd: too weak\n"


@pytest.mark.filterwarnings("always")
def test_commands_obey_both(tmp_path, capsys):
    write_small(tmp_path / "model")
    (tmp_path / "text.tsv").write_text("a b\tr\n" * 3)
    score = ["score", f"{tmp_path}/model", "--source", f"{tmp_path}/text.tsv"]
    assert main([*score, "--quiet"]) == 0
    quiet = capsys.readouterr()
    assert quiet.err == "" and len(quiet.out.splitlines()) == 3
    assert main([*score, "--log-json"]) == 0
    shown = capsys.readouterr()
    lines = list(map(json.loads, shown.err.splitlines()))
    assert shown.out == quiet.out
    assert {"note", "progress"} <= {line["event"] for line in lines}
    assert any(line["event"] == "progress" and line["done"] == 3 for line in lines)
    for options in (["--log-json"], ["--log-json", "--quiet"]):
        assert main(["translate", f"{tmp_path}/none", *options]) == 2
        *_, last = map(json.loads, capsys.readouterr().err.splitlines())
        assert last["event"] == "error" and "no such folder" in last["message"]
    assert main(["translate", f"{tmp_path}/none", "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("seqkd: ")
    assert console.style() == Messages()  # a command leaves no trace


def test_every_command_has_both():
    for group in parsing.GROUPS.values():
        for command in group:
            assert "messages" in command.__dataclass_fields__, command


# Tables.


def rows(name: str = "seq-kd+seq-inter") -> list[Row]:
    decoding = replace(ONE, sentences_per_second=12345.6, chrf=61.25)
    evaluation: Evaluation = replace(E, decodings={1: decoding, 5: decoding}, parameters=1_325_176)
    gain = Difference(1.5, 0.001, "", by_seed=((1.4, 0.01), (1.6, 0.01)))
    first = Row("baseline", (evaluation,), {})
    return [first, Row(name, (evaluation,), {1: gain, 5: gain}, compared_to="baseline")]


def test_a_table_fits_and_says_what_it_leaves_out():
    text = table(rows(), Truth(62.0, 1.5, 0.25))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "chrF " not in text.splitlines()[0]
    assert "left out: chrF K=1, chrF K=5 (--wide)" in text.splitlines()
    wide = table(rows(), layout=Layout(wide=True)).splitlines()
    assert len(wide[0]) > WIDTH and wide[0].count("chrF") == 2
    assert not any("left out" in line for line in wide)
    assert max(map(len, table(rows("runs/" + "long/" * 20)).splitlines())) <= WIDTH


def test_tables_are_written_for_papers():
    def written(form, wide=False):
        return table(rows("a|b_c"), layout=Layout(form, wide))

    lines = list(csv.reader(io.StringIO(written("csv"))))
    assert lines[0].count("chrF K=1") == 1 and len(set(lines[0])) == len(lines[0]) == 12
    found = dict(zip(lines[0], lines[2], strict=True))
    assert found["row"] == "a|b_c" and float(found["sent/s K=1"]) == 12346
    assert len(lines) == 3  # no notes
    head, rule, _, row, *notes = written("markdown").splitlines()
    assert set(rule) <= set("|:- ") and rule.endswith(":|") and "chrF" not in head
    assert r"a\|b_c" in row and r"+1.50\*\* ++" in row
    assert r"diff: of BLEU, to the baseline; paired bootstrap, \* p<.05, \*\* p<.01" in notes
    assert written("markdown", wide=True).splitlines()[0].count("chrF") == 2
    latex = written("latex").splitlines()
    assert latex[1] == r"\toprule" and any(r"b\_c" in line and "&" in line for line in latex)
    assert any(line.startswith("% left out: chrF") for line in latex)


def test_long_labels_are_wrapped_before_columns_are_left_out():
    columns = [Column("", left=True), *(Column(f"column {n}", rank=n) for n in range(1, 7))]
    text = render(columns, [["word " * 12, *"123456"]]).splitlines()
    assert "column 6" in text[0] and len(text) > 3 and max(map(len, text)) <= WIDTH


@pytest.mark.parametrize("page", ["README.md", *sorted(p.name for p in ROOT.glob("docs/*.md"))])
def test_tables_in_documents_fit(page):
    path = ROOT / page if page == "README.md" else ROOT / "docs" / page
    for match in TABLE.finditer(path.read_text(encoding="utf-8")):
        assert max(map(len, match[0].splitlines()[2:])) <= WIDTH, match[1]


# Help.


def test_help_fits_a_screen_and_its_examples_are_understood(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert stopped.value.code == 0 and len(lines) < 40 and max(map(len, lines)) <= 80
    examples = [line.split("<")[0].split()[1:] for line in lines if line.startswith("  seqkd ")]
    assert len(examples) == 3 and all(map(parsing.parse, examples))
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2 and "seqkd COMMAND --help" in capsys.readouterr().err


COMMANDS = [command for group in parsing.GROUPS.values() for command in group]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_the_example_of_a_command_is_understood(command, capsys):
    _, example = inspect.getdoc(command).split("Example: seqkd ")
    words = shlex.split(example.split("<")[0])
    assert isinstance(parsing.parse(words), command)
    with pytest.raises(SystemExit):
        parsing.parse([words[0], "--help"])
    assert ">>>" not in capsys.readouterr().out
