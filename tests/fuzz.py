"""Hostile files for every reader: each is a value or a mistake that is named, in bounded memory.

    python tests/fuzz.py nbest 10000          inputs guided by coverage (needs atheris)

A digest would keep a fuzzer out of everything behind it, so what it invents for the library's own
formats is sealed anew, as somebody would who knows how.
"""

import gzip
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SEEDS = Path(__file__).parent / "fuzz_seeds"  # inputs that once failed, by reader
MEMORY = 4096  # MB, JAX included
SECONDS = 20  # for one input; most take milliseconds


def identity(data: bytes) -> bytes:
    return data


def sealed(data: bytes) -> bytes:
    """Gives a file of the library's own the digest that its content has."""
    from seqkd_jax.sealed import digest_of, parse_json

    line, newline, body = data.partition(b"\n")
    for header, rest in (data, b""), (line, body):  # a record, or a header with a body
        try:
            record = parse_json(header)
        except ValueError:
            continue
        if isinstance(record, dict):
            record["sha256"] = digest_of(record, rest)
            return json.dumps(record).encode() + newline + rest
    return data


def sealed_gzip(data: bytes) -> bytes:
    return gzip.compress(sealed(data), 1)


class Reader(NamedTuple):
    name: str  # of the file
    read: Callable[[Path], Any]
    seeds: Callable[[Path], list[bytes]]  # valid ones, made in a folder
    wrap: Callable[[bytes], bytes] = identity


def readers() -> dict[str, Reader]:
    """Every reader of the library."""
    import numpy as np

    from seqkd_jax.build import VOCABULARIES
    from seqkd_jax.coded import read_compressed, write_compressed
    from seqkd_jax.compress.deep import share_weights
    from seqkd_jax.contrib.factors import build_factored
    from seqkd_jax.contrib.guided_alignment import read_alignments
    from seqkd_jax.data import (
        build_words,
        load_pieces,
        load_vocabulary,
        load_words,
        read_lines,
        read_pairs,
        train_pieces,
    )
    from seqkd_jax.data.vectors import read_vectors
    from seqkd_jax.decode.nbest import NBest, read_nbest, write_shard
    from seqkd_jax.decode.unknown import read_dictionary
    from seqkd_jax.distill.topk_shards import Shard, read_shard, shard_name
    from seqkd_jax.distill.topk_shards import write_shard as write_topk
    from seqkd_jax.model_folder import describe_model, read_config
    from seqkd_jax.models.attention_lstm import Config, model_of, network
    from seqkd_jax.report.compressed import read_compressed_rows
    from seqkd_jax.report.results import read_results
    from seqkd_jax.report.speed import speed_tables
    from seqkd_jax.trained import TrainedModel

    text = ["a b c", "b a-|-x \u2581 <s>", "", "ä\u00a0ö"]
    words = build_words(text)
    params = {"w": np.arange(12, dtype=np.float32).reshape(3, 4) % 4, "b": np.zeros(3, np.float32)}
    net = network(Config(9, 9, embed=4, hidden=4))
    untrained = TrainedModel(model_of(net), None, words, words, net)
    results = Path(__file__).parent.parent / "docs" / "results"

    def written(write: Callable[[Path], Any], name: str = "*") -> Callable[[Path], list[bytes]]:
        def seeds(folder: Path) -> list[bytes]:
            write(folder)
            found = [p for p in sorted(folder.rglob(name)) if p.is_file()]
            data = [p.read_bytes() for p in found]
            return [gzip.decompress(d) if d[:2] == b"\x1f\x8b" else d for d in data]

        return seeds

    def given(*texts: bytes) -> Callable[[Path], list[bytes]]:
        return lambda folder: list(texts)

    def load_any_vocabulary(path: Path) -> object:
        return load_vocabulary(path, VOCABULARIES)

    def vocabularies(folder: Path) -> None:
        words.save(folder / "w.vocab.json")
        train_pieces(["ab abc bc"], 14).save(folder / "p.vocab.json")
        build_factored(["a-|-x b-|-y"], characters=9).save(folder / "i.vocab.json")

    lists = [NBest(n, ("a b", "c"), ((4, 5), (6,)), (-0.5, -1.0), (-0.5, -1.0)) for n in range(3)]
    shard = Shard(
        np.sort(np.array([b"k" * 16, b"l" * 16])),
        np.array([2, 1]),
        np.zeros(3, np.float32),
        np.ones((3, 2), np.int64),
        np.zeros((3, 2), np.float32),
    )
    topk = {"teacher_digest": "t", "vocabulary": 9, "k": 2, "temperature": 1.0, "corpus": "c"}
    topk |= {"shards": 1, "shard": 0, "nats": 0.5}
    npz = given(b"PK\x03\x04", _npz(words=["a", "b"], vectors=np.ones((2, 3))))
    return {
        "lines": Reader("text", read_lines, given(*(t.encode() for t in text), b"\xff\xfe")),
        "gzip": Reader("text.gz", read_lines, given(gzip.compress(b"a b\nc"), b"\x1f\x8b")),
        "pairs": Reader("text.tsv", read_pairs, given(b"a\tb\nc\td", b"a\t\tb")),
        "vocabulary": Reader("vocab.json", load_any_vocabulary, written(vocabularies), sealed),
        "words": Reader("list.txt", load_words, given(b"a 2\nb 1", b"a\nb", b"<s>\n")),
        "words-json": Reader("list.json", load_words, given(b'{"a": 0, "b": 1}', b'["a"]')),
        "words-marian": Reader("list.yml", load_words, given(b'</s>: 0\n"a": 1\nb: 2')),
        "pieces": Reader("a.model", load_pieces, given(train_pieces(["ab abc bc"], 14).model)),
        "vectors": Reader(
            "vec.txt", lambda p: read_vectors(p, words), given(b"2 3\na 1 2 3\nb 1 2 3", b"a inf")
        ),
        "vectors-npz": Reader("vec.npz", lambda p: read_vectors(p, words), npz),
        "alignments": Reader(
            "align", lambda p: read_alignments(p, [("a b", "c d")]), given(b"0-1 1-0", b"9-")
        ),
        "dictionary": Reader("dict", read_dictionary, given(b"a|||b\nc|||d e")),
        "config": Reader(
            "config.json",
            read_config,
            written(
                lambda f: describe_model(f, untrained, {}),
                "config.json",
            ),
            sealed,
        ),
        "nbest": Reader(
            "shard-00000-of-00001.jsonl.gz",
            read_nbest,
            written(lambda f: write_shard(f, 0, 1, {"teacher_digest": "t"}, lists)),
            sealed_gzip,
        ),
        "nbest-foreign": Reader(
            "lists.jsonl",
            read_nbest,
            given(b'{"index": 0, "hypotheses": [{"text": "a", "score": -1}]}', b'{"index": 0.9}'),
        ),
        "nbest-moses": Reader(
            "lists.txt",
            read_nbest,
            given(b"0 ||| a ||| log_prob= -1 ||| -1\n0 ||| b ||| log_prob= -2 ||| -2", b"0 ||| x"),
        ),
        "topk": Reader(
            shard_name(0, 1),
            read_shard,
            written(lambda f: write_topk(f / shard_name(0, 1), topk, shard)),
            sealed,
        ),
        "compressed": Reader(
            "params.seqkd",
            lambda p: read_compressed(p, params),
            written(lambda f: write_compressed(f / "params.seqkd", share_weights(params, 2))),
            sealed,
        ),
        "results": Reader(
            "results.json",
            read_results,
            lambda f: [(results / "noisy-grammar.json").read_bytes()],
            sealed,
        ),
        "table3": Reader(
            "table3.json",
            read_compressed_rows,
            lambda f: [(results / "grammar-table3.json").read_bytes()],
            sealed,
        ),
        "speed": Reader(
            "speed.json",
            speed_tables,
            lambda f: [(results / "speed-h100.json").read_bytes()],
            sealed,
        ),
    }


def _npz(**arrays: Any) -> bytes:
    import io

    import numpy as np

    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def try_input(reader: Reader, folder: Path, data: bytes) -> None:
    """Reads a file with these bytes; raises where it is neither read nor refused by name."""
    from seqkd_jax.errors import UsageError

    path = folder / reader.name
    path.write_bytes(reader.wrap(data))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(path)
    except (UsageError, FileNotFoundError) as error:
        if str(path) not in str(error):
            raise AssertionError(f"the message names no file: {error}") from error


def main() -> None:
    """Lets atheris invent inputs for one reader."""
    import atheris

    name, runs = sys.argv[1], sys.argv[2]
    with atheris.instrument_imports(
        include=["seqkd_jax.files", "seqkd_jax.sealed", "seqkd_jax.data"]
    ):
        import seqkd_jax.data.text  # noqa: F401
    with atheris.instrument_imports(include=["seqkd_jax.decode.nbest", "seqkd_jax.compress"]):
        reader = readers()[name]
    folder = Path(tempfile.mkdtemp(prefix="seqkd-fuzz-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    (folder / "seeds").mkdir()
    for number, seed in enumerate(reader.seeds(folder / "seeds")):
        (corpus / str(number)).write_bytes(seed[:65536])
    options = [f"-runs={runs}", "-seed=1", "-max_len=65536", f"-timeout={SECONDS}"]
    options += [f"-rss_limit_mb={MEMORY}", f"-artifact_prefix={folder}/", str(corpus)]
    atheris.Setup([sys.argv[0], *options], lambda data: try_input(reader, folder, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
