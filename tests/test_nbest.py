import errno
import gzip
import json
import os

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from seqkd_jax.decode.nbest import (
    FORMAT,
    NBest,
    complete_shards,
    read_nbest,
    read_shard,
    shard_path,
    write_shard,
)
from seqkd_jax.errors import UsageError
from seqkd_jax.sealed import seal

quick = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
HEADER = {"teacher_digest": "0a1b", "search": {"beam_size": 5, "alpha": 0.6}, "source": "süß"}
STRANGE = ("süß \U0001f600", "a\u2028b\u0085c", 'q"\\\n\t\0', "", " x ", "\ufeffbom", "e\u0301")


@st.composite
def lists(draw, most=6):
    """N-best lists from index 0, each with its own size and columns."""
    columns = {
        "tokens": st.lists(st.integers(0, 2**31 - 1), max_size=4).map(tuple),
        "scores": st.floats(allow_nan=False, allow_infinity=False),
        "log_probs": st.floats(max_value=0, allow_infinity=False, width=32),
    }
    texts = st.one_of(st.sampled_from(STRANGE), st.text(st.characters(codec="utf-8")))
    result = []
    for index in range(draw(st.integers(0, most))):
        size = draw(st.integers(0, 3))
        some = {
            name: tuple(draw(st.lists(values, min_size=size, max_size=size)))
            for name, values in columns.items()
            if draw(st.booleans())
        }
        result.append(NBest(index, tuple(draw(st.tuples(*[texts] * size))), **some))
    return result


def small(first=0, count=3):
    return [
        NBest(n, (f"satz {n}", "ß"), ((n, 4), ()), (-0.5, -1.5), (-1.0, -2.5))
        for n in range(first, first + count)
    ]


def packed(path, lines, end="\n"):
    data = "".join(line + end for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def unpacked(path):
    return gzip.decompress(path.read_bytes()).decode().split("\n")[:-1]


def write_all(folder, nbest, sizes, header=HEADER):
    folder.mkdir(exist_ok=True)
    start = 0
    for shard, size in enumerate(sizes):
        write_shard(folder, shard, len(sizes), header, nbest[start : start + size])
        start += size


@quick
@given(nbest=lists())
@example(nbest=[NBest(0, STRANGE, scores=(-1e308, 0.1, 1e-308, -0.0, 1e300, 0.5, 3.0))])
@example(nbest=[])
def test_what_is_written_is_what_is_read(tmp_path, nbest):
    write_shard(tmp_path, 0, 1, HEADER, nbest)
    header, found = read_shard(shard_path(tmp_path, 0, 1))
    assert found == nbest
    assert len(header.pop("sha256")) == 64
    assert header == {"format": FORMAT, **HEADER, "first": 0, "count": len(nbest)}


@quick
@given(data=st.data())
def test_shards_of_any_sizes_join_to_each_sentence_once_in_order(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("shards")
    nbest = data.draw(lists(10))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(nbest)), max_size=4)))
    ends = [0, *cuts, len(nbest)]
    write_all(folder, nbest, [b - a for a, b in zip(ends, ends[1:], strict=False)])
    assert read_nbest(folder) == (HEADER, nbest)
    assert complete_shards(folder, HEADER) == set(range(len(ends) - 1))


def test_more_than_ten_shards_are_in_the_order_of_their_numbers(tmp_path):
    write_all(tmp_path, small(count=12), [1] * 12)
    assert [n.index for n in read_nbest(tmp_path)[1]] == list(range(12))


def test_equal_content_is_equal_bytes_at_any_time(tmp_path, monkeypatch):
    for folder, now in ("a", 1e9), ("b", 2e9):
        monkeypatch.setattr("time.time", lambda now=now: now)
        write_all(tmp_path / folder, small(), [3])
    a, b = (shard_path(tmp_path / folder, 0, 1).read_bytes() for folder in "ab")
    assert a == b
    assert a[4:8] == bytes(4)  # RFC 1952: no time stamp
    assert not a[3]  # nor a file name


def test_a_shard_is_plain_gzip_and_json_lines(tmp_path):
    write_shard(tmp_path, 3, 12, HEADER, small(6, 2))
    assert [p.name for p in tmp_path.iterdir()] == ["shard-00003-of-00012.jsonl.gz"]
    lines = unpacked(tmp_path / "shard-00003-of-00012.jsonl.gz")
    assert "ß" in lines[1]  # readable, not escaped
    header, *records = [json.loads(line) for line in lines]
    assert len(header.pop("sha256")) == 64
    assert [header, *records] == [
        {"format": FORMAT, **HEADER, "first": 6, "count": 2},
        *(
            {
                "index": n,
                "hypotheses": [
                    {"text": f"satz {n}", "tokens": [n, 4], "score": -0.5, "log_prob": -1.0},
                    {"text": "ß", "tokens": [], "score": -1.5, "log_prob": -2.5},
                ],
            }
            for n in (6, 7)
        ),
    ]


@pytest.mark.parametrize("name", ["theirs.jsonl", "theirs.jsonl.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["no-bom", "bom"])
def test_another_teachers_minimal_file_is_read(tmp_path, name, end, mark):
    lines = [
        mark + '{"hypotheses":[{"text":"eins"},{"text":"zw\\u00f6lf \\ud83d\\ude00"}],"index":0}',
        '{"index": 1, "hypotheses": []}',
        '{"index": 2, "hypotheses": [{"text": "", "score": -1, "theirs": [1]}], "model": "x"}',
    ]
    path = packed(tmp_path / name, lines, end)
    want = [NBest(0, ("eins", "zwölf \U0001f600")), NBest(1, ()), NBest(2, ("",), scores=(-1.0,))]
    assert read_nbest(path) == ({}, want)


def test_a_file_without_a_last_newline_is_read(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"index": 0, "hypotheses": [{"text": "a"}]}')
    assert read_nbest(tmp_path / "a.jsonl") == ({}, [NBest(0, ("a",))])


def test_another_teachers_file_may_be_a_later_part(tmp_path):
    path = packed(tmp_path / "part.jsonl", ['{"index": 70, "hypotheses": [{"text": "a"}]}'])
    assert read_shard(path) == ({}, [NBest(70, ("a",))])


BAD_LINES = {
    "cut-off": '{"index": 1, "hypothe',
    "empty": "",
    "a-list": "[1, 2]",
    "a-number": "1",
    "nested-too-deep": "[" * 100_000,
    "no-index": '{"hypotheses": [{"text": "a"}]}',
    "no-hypotheses": '{"index": 1, "text": "a"}',
    "no-text": '{"index": 1, "hypotheses": [{"tokens": [5]}]}',
    "hypotheses-is-null": '{"index": 1, "hypotheses": null}',
    "hypotheses-is-text": '{"index": 1, "hypotheses": ""}',
    "hypotheses-are-texts": '{"index": 1, "hypotheses": ["a"]}',
    "text-is-a-number": '{"index": 1, "hypotheses": [{"text": 5}]}',
    "index-is-text": '{"index": "one", "hypotheses": []}',
    "index-is-null": '{"index": null, "hypotheses": []}',
    "index-is-infinite": '{"index": Infinity, "hypotheses": []}',
    "index-is-no-whole-number": '{"index": 1.9, "hypotheses": []}',
    "index-is-a-whole-float": '{"index": 1.0, "hypotheses": []}',
    "index-is-true": '{"index": true, "hypotheses": []}',
    "index-is-digits": '{"index": "1", "hypotheses": []}',
    "index-is-negative": '{"index": -1, "hypotheses": []}',
    "score-is-text": '{"index": 1, "hypotheses": [{"text": "a", "score": "good"}]}',
    "score-is-null": '{"index": 1, "hypotheses": [{"text": "a", "score": null}]}',
    "tokens-are-words": '{"index": 1, "hypotheses": [{"text": "a", "tokens": ["a"]}]}',
    "tokens-are-no-whole-numbers": '{"index": 1, "hypotheses": [{"text": "a", "tokens": [4.5]}]}',
    "tokens-are-negative": '{"index": 1, "hypotheses": [{"text": "a", "tokens": [-5]}]}',
    "score-is-true": '{"index": 1, "hypotheses": [{"text": "a", "score": true}]}',
    "score-is-not-finite": '{"index": 1, "hypotheses": [{"text": "a", "score": -Infinity}]}',
    "text-is-half-a-character": '{"index": 1, "hypotheses": [{"text": "\\ud83d"}]}',
    "tokens-is-a-number": '{"index": 1, "hypotheses": [{"text": "a", "tokens": 5}]}',
    "score-is-too-large": '{"index": 1, "hypotheses": [{"text": "a", "score": 1%s}]}' % ("0" * 400),
    "scores-of-some": '{"index": 1, "hypotheses": [{"text": "a"}, {"text": "b", "score": -1}]}',
    "tokens-of-some": '{"index": 1, "hypotheses": [{"text": "a", "tokens": [5]}, {"text": "b"}]}',
    "sentence-left-out": '{"index": 2, "hypotheses": []}',
    "sentence-twice": '{"index": 0, "hypotheses": []}',
}


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, name, bad):
    path = packed(tmp_path / name, ['{"index": 0, "hypotheses": []}', bad])
    with pytest.raises(ValueError) as error:
        read_nbest(path)
    assert str(error.value).startswith(f"{path}:2: ")
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)
    assert "delete" not in str(error.value).lower()  # it is somebody else's file


def edit_header(lines, **change):
    return [json.dumps(json.loads(lines[0]) | change), *lines[1:]]


EDITS = {
    "a-word": lambda lines: [line.replace("satz", "Satz") for line in lines],
    "a-score": lambda lines: [line.replace("-1.5", "-0.5") for line in lines],
    "a-line-less": lambda lines: lines[:-1],
    "a-line-twice": lambda lines: [*lines, lines[-1]],
    "lines-swapped": lambda lines: [lines[0], lines[2], lines[1], lines[3]],
    "a-cut-line": lambda lines: [*lines[:2], "{", *lines[3:]],
    "another-teacher": lambda lines: edit_header(lines, teacher="ffff"),
    "a-count": lambda lines: edit_header(lines, count=4),
    "no-first": lambda lines: edit_header(lines, first=None),
    "no-digest": lambda lines: edit_header(lines, sha256=None),
    "infinity": lambda lines: [lines[0][:-1] + ', "count": 1e999}', *lines[1:]],
    "another-version": lambda lines: edit_header(lines, format="seqkd-nbest-99"),
    "another-kind": lambda lines: edit_header(lines, format="seqkd-topk-1"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_shard_that_was_edited_and_packed_again_is_refused(tmp_path, edit):
    write_shard(tmp_path, 0, 1, HEADER, small())
    path = shard_path(tmp_path, 0, 1)
    packed(path, edit(unpacked(path)))
    for read in read_nbest, lambda folder: complete_shards(folder, HEADER):
        with pytest.raises(UsageError) as error:
            read(tmp_path)
        assert str(error.value).startswith(str(path)) and len(str(error.value)) < 500


def test_a_sealed_shard_whose_header_does_not_fit_is_refused(tmp_path):
    """Whoever computes the digest anew has not made the numbers true."""
    write_shard(tmp_path, 0, 1, HEADER, small())
    path = shard_path(tmp_path, 0, 1)
    header, *lines = unpacked(path)
    body = "".join(line + "\n" for line in lines).encode()
    for change in {"count": 4}, {"count": None}, {"first": 7}, {"first": "0"}, {"first": -1}:
        about = json.loads(header) | change
        path.write_bytes(gzip.compress(seal(FORMAT, about, body)))
        with pytest.raises(UsageError, match="delete it and run that command again") as error:
            read_nbest(tmp_path)
        assert str(error.value).startswith(str(path))


def test_a_gzip_file_that_would_fill_the_memory_is_refused(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"index": 0, "hypotheses": []}' + b" " * (80 << 20)))
    with pytest.raises(UsageError, match="bomb.jsonl.gz: unpacks to more than"):
        read_nbest(path)


def test_lists_that_pack_a_hundredfold_are_read_back(tmp_path):
    """A teacher that repeats itself; what is written must be read whatever it is."""
    nbest = [NBest(n, ("da " * (1 << 20),)) for n in range(25)]
    write_shard(tmp_path, 0, 1, HEADER, nbest)
    assert read_shard(shard_path(tmp_path, 0, 1))[1] == nbest


def test_a_number_of_shards_that_nobody_has_is_answered_at_once(tmp_path):
    write_shard(tmp_path, 0, 10**13, HEADER, small())
    with pytest.raises(UsageError, match=r"\[1, 2, 3, 4, 5, 6, 7, 8, 9, 10\] of 10000000000000"):
        read_nbest(tmp_path)


def test_a_line_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"index": 0, "hypotheses": []}\n{"index": 1, "x": "\xff"}\n')
    with pytest.raises(ValueError, match="a.jsonl:2: not valid UTF-8"):
        read_nbest(path)


@pytest.mark.parametrize(
    "first_line",
    [
        '{"teacher_digest": "0a1b"}',
        "{}",
        '{"id": 0, "translation": "ein Satz"}',
        "ein Satz",
        "0 || ein Satz || -1.5",
        "",
    ],
)
def test_a_file_that_is_something_else_is_refused(tmp_path, first_line):
    path = packed(tmp_path / "a.jsonl", [first_line, '{"index": 0, "hypotheses": []}'])
    with pytest.raises(ValueError) as error:
        read_nbest(path)
    assert str(error.value).startswith(f"{path}:1: not ")


def test_a_shard_cut_off_anywhere_is_refused(tmp_path):
    write_shard(tmp_path, 0, 1, HEADER, small())
    path = shard_path(tmp_path, 0, 1)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="damaged") as error:
            read_nbest(tmp_path)
        assert str(path) in str(error.value)


def test_a_changed_byte_never_changes_what_is_read(tmp_path):
    write_shard(tmp_path, 0, 1, HEADER, small())
    path = shard_path(tmp_path, 0, 1)
    whole, want = path.read_bytes(), read_nbest(tmp_path)
    refused = 0
    for place in range(len(whole)):
        for bit in (0, 3, 7):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            try:
                assert read_nbest(tmp_path) == want  # such as the time stamp of gzip
            except ValueError as error:
                assert str(path) in str(error)
                refused += 1
            try:
                assert complete_shards(tmp_path, HEADER) == {0}
            except ValueError as error:
                assert str(path) in str(error)
    assert refused > 2.5 * len(whole)


@pytest.mark.parametrize("lost", [[0], [2], [1, 3], [3]], ids=str)
def test_a_lost_shard_is_named(tmp_path, lost):
    write_all(tmp_path, small(count=8), [2] * 4)
    for shard in lost:
        shard_path(tmp_path, shard, 4).unlink()
    with pytest.raises(ValueError) as error:
        read_nbest(tmp_path)
    assert f"shards {lost} of 4 are missing" in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert complete_shards(tmp_path, HEADER) == {0, 1, 2, 3} - set(lost)


def test_shards_of_two_cuts_are_not_mixed(tmp_path):
    write_all(tmp_path, small(count=4), [4])
    write_all(tmp_path, small(count=4), [2, 2])
    with pytest.raises(ValueError, match="shard-00000-of-00002.jsonl.gz: from another run"):
        read_nbest(tmp_path)


@pytest.mark.parametrize("first", [1, 3], ids=["overlap", "gap"])
def test_shards_that_do_not_join_are_refused(tmp_path, first):
    write_shard(tmp_path, 0, 2, HEADER, small(0, 2))
    write_shard(tmp_path, 1, 2, HEADER, small(first, 2))
    with pytest.raises(
        ValueError, match=f"begins with sentence {first}, but sentence 2 comes"
    ) as error:
        read_nbest(tmp_path)
    assert str(shard_path(tmp_path, 1, 2)) in str(error.value)


OTHERS = {
    "teacher": HEADER | {"teacher_digest": "ffff"},
    "search": HEADER | {"search": {"beam_size": 1, "alpha": 0.6}},
    "source": {k: v for k, v in HEADER.items() if k != "source"},
    "sentences": HEADER | {"sentences": 4},
}


@pytest.mark.parametrize(("name", "other"), OTHERS.items(), ids=OTHERS)
def test_shards_of_another_teacher_are_refused(tmp_path, name, other):
    write_shard(tmp_path, 0, 2, HEADER, small(0, 2))
    write_shard(tmp_path, 1, 2, other, small(2, 2))
    with pytest.raises(ValueError, match="shard-00001-of-00002.jsonl.gz: made by another teacher"):
        read_nbest(tmp_path)
    with pytest.raises(ValueError) as error:
        complete_shards(tmp_path, HEADER)
    what = {"sentences": "number of sentences"}.get(name, name)
    assert f"shard-00001-of-00002.jsonl.gz: made with another {what}" in str(error.value)
    changed = {"search": (5, 1), "teacher": ("0a1b", "ffff")}.get(
        name, (HEADER.get(name), other.get(name))
    )
    assert all(str(value) in str(error.value) for value in changed)


def test_only_shards_are_looked_at(tmp_path):
    write_all(tmp_path, small(), [2, 1])
    for name in ("notes.txt", ".shard-00000.lock", ".5f0c.tmp", "shard-00000.jsonl"):
        (tmp_path / name).write_text("not a shard")
    assert read_nbest(tmp_path) == (HEADER, small())
    assert complete_shards(tmp_path, HEADER) == {0, 1}


def test_a_shard_by_another_name_is_refused(tmp_path):
    packed(tmp_path / "shard-1.jsonl.gz", ['{"index": 0, "hypotheses": []}'])
    for read in (read_nbest, lambda folder: complete_shards(folder, HEADER)):
        with pytest.raises(ValueError, match="shard-1.jsonl.gz"):
            read(tmp_path)


@pytest.mark.parametrize("name", ["missing", "missing.jsonl", "missing.jsonl.gz"])
def test_a_missing_file_is_named(tmp_path, name):
    for read in read_nbest, read_shard:
        with pytest.raises(FileNotFoundError, match=name):
            read(tmp_path / name)


def test_a_folder_without_shards_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=tmp_path.name):
        read_nbest(tmp_path)
    assert complete_shards(tmp_path, HEADER) == set()


@pytest.mark.parametrize(
    "nbest",
    [
        NBest(1, ("a", "b"), scores=(-1.0,)),
        NBest(1, ("a",), tokens=((4,), (5,))),
        NBest(1, (), log_probs=(-1.0,)),
        NBest(1, ("a",), scores=(float("nan"),)),
        NBest(1, ("a",), log_probs=(-float("inf"),)),
    ],
    ids=["scores", "tokens", "log_probs", "nan", "inf"],
)
def test_what_could_not_be_read_is_not_written(tmp_path, nbest):
    with pytest.raises(ValueError, match="sentence 1"):
        write_shard(tmp_path, 0, 1, HEADER, [NBest(0, ()), nbest])
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_shard_whole(tmp_path, monkeypatch):
    write_shard(tmp_path, 0, 1, HEADER, small())

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        write_shard(tmp_path, 0, 1, HEADER, small(0, 1))
    assert error.value.filename == str(shard_path(tmp_path, 0, 1))
    assert [p.name for p in tmp_path.iterdir()] == ["shard-00000-of-00001.jsonl.gz"]
    assert read_nbest(tmp_path) == (HEADER, small())
