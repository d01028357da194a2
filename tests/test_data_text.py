import errno
import gzip
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from seqkd_jax.data.lines import read_pairs
from seqkd_jax.data.text import read_lines, write_lines
from seqkd_jax.files import atomic_write, check_writable, sha256

quick = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
line = st.text(st.characters(codec="utf-8", exclude_characters="\n\0"))
names = pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])


@names
@quick
@given(lines=st.lists(line))
@example(lines=["a\u2028b", "\u0085", "\r", "x\ry", "z\r", "\r\r", "", "\x0b\x0c\x1c"])
@example(lines=["\ufeffa", "\ufeff"])
@example(lines=[""])
@example(lines=[])
def test_what_is_written_is_what_is_read(tmp_path, name, lines):
    write_lines(tmp_path / name, lines)
    assert read_lines(tmp_path / name) == lines


@names
def test_equal_lines_are_equal_bytes(tmp_path, name):
    (tmp_path / "later").mkdir()
    for folder in (tmp_path, tmp_path / "later"):
        write_lines(folder / name, ["one", "two"])
    assert (tmp_path / name).read_bytes() == (tmp_path / "later" / name).read_bytes()


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n\nb\n", ["a", "", "b"]),
        (b"a\r\nb\r\r\n", ["a", "b\r"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
        ("a\u2028b\u0085c\x1ed\n".encode(), ["a\u2028b\u0085c\x1ed"]),
    ],
    ids=["empty", "one-empty", "no-last-end", "gap", "carriage-return", "bom", "other-breaks"],
)
def test_only_the_newline_ends_a_line(tmp_path, data, lines):
    (tmp_path / "a").write_bytes(data)
    assert read_lines(tmp_path / "a") == lines


def test_invalid_utf8_is_named_by_file_line_and_column(tmp_path):
    path = tmp_path / "train.de"
    path.write_bytes(b"gut\n" * 16 + "süß\xa0".encode() + b"\xffx\n")
    with pytest.raises(ValueError) as error:
        read_lines(path)
    assert str(error.value).startswith(
        f"{path}:17: not valid UTF-8 (byte 0xff at column 5); convert the file to UTF-8"
    )


def test_nul_bytes_are_refused_by_line(tmp_path):
    (tmp_path / "a").write_bytes(b"ok\na\0b\n")
    with pytest.raises(ValueError, match=r"a:2: holds a NUL byte"):
        read_lines(tmp_path / "a")
    with pytest.raises(ValueError, match="line 1 holds a NUL"):
        write_lines(tmp_path / "b", ["\0"])
    assert not (tmp_path / "b").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.en"):
        read_lines(tmp_path / "nowhere.en")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        write_lines(tmp_path / "nowhere" / "a", ["x"])


@quick
@given(data=st.data())
def test_every_damage_to_a_gzip_file_is_found(tmp_path, data):
    path = tmp_path / "a.gz"
    lines = data.draw(st.lists(line, min_size=1, max_size=5))
    write_lines(path, lines)
    packed = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(packed) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(packed[:place])
    else:
        packed[place] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(packed)
    try:
        assert read_lines(path) == lines  # a flip in the header's time stamp says nothing
    except ValueError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("cut", [0, 1, 12, -1])
def test_a_truncated_gzip_file_is_refused(tmp_path, cut):
    write_lines(tmp_path / "a.gz", ["some text", "more text"])
    (tmp_path / "a.gz").write_bytes((tmp_path / "a.gz").read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"a\.gz: damaged gzip"):
        read_lines(tmp_path / "a.gz")


@pytest.mark.parametrize("name", ["a", "a.gz", "a.tsv", "b.tsv.gz"])
@quick
@given(data=st.binary(), packed=st.booleans())
def test_readers_of_any_bytes_give_lines_or_name_the_file(tmp_path, name, data, packed):
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if packed and name.endswith("gz") else data)
    for read in (read_lines, read_pairs):
        try:
            read(path)
        except ValueError as error:
            assert str(path) in str(error)


def test_pairs_come_from_two_files_or_from_one_with_columns(tmp_path):
    pairs = [("a b", "c"), ("", "d"), ("e", ""), ("f\u2028", "g\r")]
    write_lines(tmp_path / "x.en", [s for s, _ in pairs])
    write_lines(tmp_path / "x.de.gz", [t for _, t in pairs])
    write_lines(tmp_path / "x.tsv", ["\t".join(pair) for pair in pairs])
    assert read_pairs(tmp_path / "x.en", tmp_path / "x.de.gz") == pairs
    assert read_pairs(tmp_path / "x.tsv") == pairs


@pytest.mark.parametrize("wrong", ["one", "a\tb\tc", ""], ids=["one", "three", "empty"])
def test_a_line_without_two_columns_is_named(tmp_path, wrong):
    write_lines(tmp_path / "x.tsv", ["a\tb", wrong])
    with pytest.raises(ValueError, match=r"x\.tsv:2: [13] columns"):
        read_pairs(tmp_path / "x.tsv")


def test_one_file_alone_must_have_columns(tmp_path):
    with pytest.raises(ValueError, match="give the file of the targets as well"):
        read_pairs(tmp_path / "x.en")


def test_unequal_numbers_of_lines_are_named_with_the_first_odd_line(tmp_path):
    sources = ["w " * (3 + 20 * (n % 7 == 6)) for n in range(20)]
    write_lines(tmp_path / "x.en", sources)
    write_lines(tmp_path / "x.de", sources[:4] + sources[5:])
    with pytest.raises(ValueError) as error:
        read_pairs(tmp_path / "x.en", tmp_path / "x.de")
    message = str(error.value)
    assert "x.en has 20 lines" in message and "x.de has 19" in message
    assert "Line 6 is the first" in message  # line 5 is missing; the long line 7 came too early
    write_lines(tmp_path / "x.de", sources[:-1])
    with pytest.raises(ValueError, match="No line up to 19 stands out"):
        read_pairs(tmp_path / "x.en", tmp_path / "x.de")


def test_a_line_break_inside_a_line_is_refused_and_nothing_written(tmp_path):
    write_lines(tmp_path / "a", ["old"])
    with pytest.raises(ValueError, match="line 2 holds a line break"):
        write_lines(tmp_path / "a", ["x", "y\nz"])
    assert read_lines(tmp_path / "a") == ["old"]


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    write_lines(tmp_path / "a", ["old"])

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device.*a'"):
        atomic_write(tmp_path / "a", b"new")
    assert read_lines(tmp_path / "a") == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_stays_one_and_a_pipe_is_written_to(tmp_path):
    write_lines(tmp_path / "a", ["old"])
    (tmp_path / "link").symlink_to(tmp_path / "a")
    check_writable(tmp_path / "link")
    write_lines(tmp_path / "link", ["new"])
    assert (tmp_path / "link").is_symlink() and read_lines(tmp_path / "a") == ["new"]
    os.mkfifo(tmp_path / "pipe")
    check_writable(tmp_path / "pipe")
    with ThreadPoolExecutor() as pool:
        read = pool.submit((tmp_path / "pipe").read_bytes)
        write_lines(tmp_path / "pipe", ["through"])
        assert read.result() == b"through\n"
    assert (tmp_path / "pipe").is_fifo()


def test_sha256_is_that_of_the_bytes(tmp_path):
    atomic_write(tmp_path / "a", b"some bytes")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"some bytes").hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
