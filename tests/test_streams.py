"""Text that comes line by line, and goes out in UTF-8 whatever the locale is."""

import ast
import gzip
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_folder import SRC, write_small

import seqkd_jax
from seqkd_jax.__main__ import main
from seqkd_jax.data import read_lines, write_lines
from seqkd_jax.data.batches import source_batches
from seqkd_jax.data.waiting import MAX_LINE_BYTES, open_text, waiting_lines
from seqkd_jax.decode.translation import STREAM_SENTENCES
from seqkd_jax.errors import UsageError

LIMITS = ["--max-ratio", "1", "--max-extra", "2", "--beam-size", "2"]
WORDS = SRC.words[4:]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("streams") / "model")


def command(*arguments, **environment):
    """A process of its own, in a locale that is not UTF-8."""
    env = os.environ | {"LC_ALL": "C"} | environment
    return subprocess.Popen(
        [sys.executable, "-m", "seqkd_jax", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=Path(seqkd_jax.__file__).parent.parent,
    )


def translated(model, lines, *more, capsys):
    path = model.parent / "lines"
    write_lines(path, lines)
    assert main(["translate", str(model), "--source", str(path), *LIMITS, *more]) == 0
    return capsys.readouterr().out.split("\n")[:-1]


def test_a_table_on_standard_input_is_warned_of(model, capsys, monkeypatch):
    table = io.BytesIO(b"a b\na\tb\nb\ta\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(table))
    assert main(["translate", str(model), *LIMITS]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 3
    assert shown.err.count("cut -f1") == 1 and ":2: there is a tab" in " ".join(shown.err.split())


def test_each_line_is_answered_before_the_next_is_given_and_in_utf8(model, capsys):
    lines = ["aß b c", "", "h", "d d d d d d d d d d d d"]
    want = translated(model, lines, capsys=capsys)
    assert not "".join(want).isascii()
    process = command("translate", model, *LIMITS, PYTHONIOENCODING="ascii")
    for line, answer in zip(lines, want, strict=True):
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline().decode() == answer + "\n"
    process.stdin.write(b"b\nb \xff\nc\n")  # the first of these is answered, too
    out, err = process.communicate()
    assert out.decode().count("\n") == 1 and process.returncode == 2
    assert b"standard input:6: not valid UTF-8" in err


def test_a_reader_that_leaves_ends_a_command_quietly(model):
    search = [*LIMITS, "--n-best", "2"]
    with command("translate", model, *search, PYTHONIOENCODING="latin-1") as process:
        process.stdin.write("aß\n".encode() * 9)
        process.stdin.flush()
        assert process.stdout.readline().decode().startswith("0 ||| ")
        process.stdout.close()
        process.stdin.write("aß\n".encode() * 20_000)
        process.stdin.close()
        said = process.stderr.read().splitlines()
        assert len(said) == 1 and b" x " in said[0]  # the line about devices, and no more
        assert process.wait() == 141


class Endless(io.RawIOBase):
    """Input that counts how many lines were taken from it."""

    def __init__(self, line, lines):
        self.text, self.left, self.given = line, lines, 0

    def readable(self):
        return True

    def readinto(self, buffer):
        count = min(self.left, len(buffer) // len(self.text))
        buffer[: count * len(self.text)] = self.text * count
        self.left -= count
        self.given += count
        return count * len(self.text)


@pytest.mark.parametrize(
    "to_file", [pytest.param(False, marks=pytest.mark.slow), True], ids=["stdout", "file"]
)
def test_what_is_held_does_not_grow_with_the_text(model, tmp_path, monkeypatch, to_file):
    raw, held = Endless(b"\n", 300_000), []  # empty lines need no model

    class Counted(io.StringIO):
        def write(self, text):
            held.append(raw.given - sum(written))
            written.append(text.count("\n"))
            return len(text)

    class File:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            held.append(raw.given - len(written))
            written.append(1)
            return self.file.write(data)

    written: list[int] = []
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(raw)))
    arguments = ["translate", str(model)]
    if to_file:
        temporary = seqkd_jax.files._temporary_file
        monkeypatch.setattr("seqkd_jax.files._temporary_file", lambda f: _With(File, temporary(f)))
        arguments += ["--out", str(tmp_path / "out")]
    else:
        monkeypatch.setattr("sys.stdout", Counted())
    assert main(arguments) == 0
    assert sum(written) == 300_000
    assert max(held) <= STREAM_SENTENCES + 2 * (1 << 16)  # and a buffer


class _With:
    """A context manager that wraps what another gives."""

    def __init__(self, wrap, inner):
        self.wrap, self.inner = wrap, inner

    def __enter__(self):
        return self.wrap(self.inner.__enter__())

    def __exit__(self, *error):
        return self.inner.__exit__(*error)


NUMBER = re.compile(r"-?\d+\.\d+")


@pytest.mark.slow
def test_a_stream_is_translated_as_the_same_lines_together(model, capsys, monkeypatch):
    lines = [f"{a} {b}" for a in WORDS for b in WORDS]
    write_lines(model.parent / "targets", [line[::-1] for line in lines])
    write_lines(model.parent / "sources", lines)
    fitted = ["--shortlist", *(str(model.parent / side) for side in ("sources", "targets"))]
    for more in (["--n-best", "2"], ["--scores", "--replace-unk", *fitted]):
        want = translated(model, lines, *more, capsys=capsys)
        drops = io.BytesIO("".join(line + "\n" for line in lines).encode())
        # What waits is a few bytes each time.
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(Drops(drops, 37)))
        monkeypatch.setattr("seqkd_jax.data.waiting._ready", lambda file: False)
        assert main(["translate", str(model), *LIMITS, *more]) == 0
        got = capsys.readouterr().out.split("\n")[:-1]
        assert [NUMBER.sub("", line) for line in got] == [NUMBER.sub("", line) for line in want]
        scores = (
            [float(x) for line in lines for x in NUMBER.findall(line)] for lines in (got, want)
        )
        np.testing.assert_allclose(*scores, atol=2e-4)  # batches of other shapes round otherwise


class Drops(io.BufferedReader):
    """Gives few bytes at a time, as a pipe whose writer is slow."""

    def __init__(self, raw, size):
        super().__init__(raw)
        self.size = size

    def read1(self, size=-1, /):
        return super().read1(self.size)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), max_size=6)),
    st.integers(1, 5),
    st.integers(1, 9),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_lines_that_come_in_drops_are_those_of_the_file(
    tmp_path_factory, lines, most, size, end, last
):
    path = tmp_path_factory.mktemp("lines") / "text"
    text = end.join(lines) + (end if last else "")
    assume("\n" in text or "\r" not in text.rstrip("\r"))  # that would be an old Macintosh's file
    path.write_bytes(text.encode())
    for file in Drops(io.BytesIO(path.read_bytes()), size), io.BytesIO(path.read_bytes()):
        given_lines = list(waiting_lines(file, "text", most))
        assert all(1 <= len(some) <= most for some in given_lines)
        assert [line for some in given_lines for line in some] == read_lines(path)


def test_what_the_name_does_not_say_is_seen(tmp_path):
    """A gzip file under another name, and one that ends its lines as old Macintoshes did."""
    (tmp_path / "packed").write_bytes(gzip.compress(b"a\nb\n"))
    with open_text(tmp_path / "packed") as opened:
        assert list(waiting_lines(*opened, 9)) == [["a", "b"]]
    (tmp_path / "old").write_bytes(b"a\rb\rc\r")
    with pytest.raises(UsageError, match="carriage return alone"):
        read_lines(tmp_path / "old")
    with pytest.raises(UsageError, match="carriage return alone"):
        with open_text(tmp_path / "old") as opened:
            list(waiting_lines(*opened, 9))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_all_lines_before_a_bad_one_are_given(tmp_path, packed):
    path = tmp_path / ("text.gz" if packed else "text")
    for bad, why in (
        (b"\xff", "not valid UTF-8"),
        (b"x\0", "NUL"),
        (b"x" * (MAX_LINE_BYTES + 1), "longer"),
    ):
        for place in (1, 2, 3, 50, 100):
            lines = [b"ok"] * (place - 1) + [bad] + [b"after"] * 3
            data = b"\n".join(lines) + b"\n"
            path.write_bytes(gzip.compress(data) if packed else data)
            found = []
            with pytest.raises(UsageError, match=f"text(.gz)?:{place}: .*{why}"):
                with open_text(path) as (file, name):
                    for some in waiting_lines(file, name, 64):
                        found += some
            assert found == ["ok"] * (place - 1)


def test_a_gzip_file_cut_off_is_named_after_what_it_has(tmp_path):
    path = tmp_path / "text.gz"
    whole = gzip.compress(b"".join(b"%d\n" % (n * n) for n in range(50_000)))
    path.write_bytes(whole[: len(whole) // 2])
    found = []
    with pytest.raises(UsageError, match="text.gz: damaged gzip file"), open_text(path) as opened:
        for some in waiting_lines(*opened, 64):
            found += some
    assert len(found) > 5_000 and found == [str(n * n) for n in range(len(found))]


def test_a_failure_leaves_the_old_output_whole(model, tmp_path, capsys):
    out = tmp_path / "out.txt"
    out.write_text("before\n")
    (tmp_path / "in.txt").write_bytes(b"b c\n" * 3 + b"\xff\n")
    given_files = ["--source", str(tmp_path / "in.txt"), "--out", str(out)]
    assert main(["translate", str(model), *given_files]) == 2
    assert "in.txt:4: not valid UTF-8" in capsys.readouterr().err
    assert out.read_text() == "before\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.txt", "out.txt"]


@pytest.mark.parametrize("name", ["translate", "extract", "distill", "cache"])
def test_what_cannot_be_written_is_said_before_the_model_is_read(tmp_path, capsys, name):
    text, file = tmp_path / "text", tmp_path / "file"
    write_lines(text, ["b"])
    write_lines(file, ["in the way"])
    (tmp_path / "folder" / "train.src").mkdir(parents=True)
    write_lines(tmp_path / "other", ["c"])
    pairs = ["--source", str(text), "--target", str(tmp_path / "other")]
    more = pairs if name in ("extract", "cache") else pairs[:2]
    outs = [file / "x"] if name in ("distill", "cache") else [tmp_path, tmp_path / "none" / "x"]
    outs += [tmp_path / "folder"] if name == "distill" else []
    for out in outs:
        assert main([name, str(tmp_path / "no-model"), *more, "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert str(out) in error or str(out.parent) in error
        assert "no-model" not in error


def test_few_programs_serve_lines_that_come_in_any_number():
    """Shapes are compiled: of streams there are few, however lines fall together."""
    rng = np.random.default_rng(0)
    shapes = set()
    for _ in range(300):
        lengths = rng.integers(1, 250, rng.integers(1, 400))
        sources = [rng.integers(4, 9, n) for n in lengths]
        shapes |= {src.shape for src, _ in source_batches(sources, tokens_per_batch=8192)}
    assert len({rows for rows, _ in shapes if rows < 32}) <= 3  # 1, 4, 16
    assert len({width for _, width in shapes}) <= 10


def test_text_files_name_their_encoding():
    """Without one Python takes the locale's."""
    for path in Path(seqkd_jax.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            mode = node.args[1:] if isinstance(node.func, ast.Name) else node.args
            modes = [ast.literal_eval(m) for m in mode if isinstance(m, ast.Constant)]
            # A method with something else than a mode opens a member of an archive, or bytes.
            text = name == "open" and len(modes) == len(mode) and "b" not in "".join(modes)
            if text or name in ("read_text", "write_text"):
                named = {keyword.arg for keyword in node.keywords}
                assert "encoding" in named, f"{path}:{node.lineno}"
