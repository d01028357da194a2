"""The commands on the pages do what the pages say: run by a shell, in the order of the pages.

The files of the user are some sentences of the grammar; every training is cut short.
"""

import gzip
import io
import os
import re
import shutil
import subprocess
import sys

import pytest
import sentencepiece
from test_readme import BLOCK, ROOT

from seqkd_jax.data import grammar, write_lines

ONCE = ["--epochs", "1", "--buckets", "1"]
SIZES = [
    f"--{model}-size.{size}" for model in ("teacher", "student") for size in ("hidden", "embed")
]
TRAININGS = [
    f"--{model}-training.{option}"
    for model in ("teacher", "student")
    for option in ("epochs", "buckets")
]
SHORT = {
    "train": ["--hidden", "8", "--embed", "8", *ONCE],
    "run": [
        *(word for option in SIZES for word in (option, "8")),
        *(word for option in TRAININGS for word in (option, "1")),
        *["--rows", "baseline", "--beams", "1", "--anyway", "--tokenize", "char"],
    ],
    "prune": ONCE,
    "compress": ONCE,
}
SEQKD = f"""#!{sys.executable}
import sys
from seqkd_jax.__main__ import main
given = sys.argv[1:]
sys.exit(main([*given, *{SHORT}.get(given[0], [])]))
"""


# Pages in the order in which a person reads them; each with the beginnings of its blocks that run
# here. Others install something, download a corpus, train for long, or need other machines.
READ = {
    "README.md": ["seqkd run --train", "seqkd train"],
    "docs/compression.md": ["seqkd prune"],
    "docs/speed.md": ["seqkd translate"],
    "docs/start.md": ["echo"],
    "docs/serving.md": ["seqkd export runs/demo/seq-kd --out student.seqkdx"],
    "docs/losses.md": ["seqkd cache"],
    "docs/teachers.md": ["seqkd distill"],
    "docs/text.md": ["seqkd run --train train.tsv", "seqkd run --train"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the files that the pages name, and ``seqkd`` in the folder ``bin``."""
    folder = tmp_path_factory.mktemp("pages")
    pairs = [p for p in grammar.sample_pairs(5, 900) if len(p[0].split()) in (6, 7)][:260]
    parts = {"train": pairs[:200], "valid": pairs[200:230], "test": pairs[230:]}
    for part, kept in parts.items():
        for side, lines in zip(("en", "de"), zip(*kept, strict=True), strict=True):
            write_lines(folder / f"{part}.{side}", lines)
        write_lines(folder / f"{part}.tsv", ["\t".join(pair) for pair in kept])
    for text in ("valid.de", "train.de"):
        shutil.copy(folder / text, folder / text.replace(".de", ".ja"))
    for text in ("train.en", "train.ja"):
        (folder / f"{text}.gz").write_bytes(gzip.compress((folder / text).read_bytes()))
    for side in ("src", "tgt"):
        shutil.copy(folder / f"train.{'en' if side == 'src' else 'de'}", folder / f"train.{side}")
    lists = [
        f"{n} ||| {target} ||| log_prob= -1.5 ||| -1.5"
        for n, (_, target) in enumerate(parts["train"])
    ]
    write_lines(folder / "nbest.txt", lists)
    for name in ("joint", "source"):
        model = io.BytesIO()
        text = (line for pair in pairs for line in pair)
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=text, model_writer=model, vocab_size=120, minloglevel=2
        )
        (folder / f"{name}.model").write_bytes(model.getvalue())
    write_lines(
        folder / "words.txt", sorted({word for _, target in pairs for word in target.split()})
    )
    (folder / "bin").mkdir()
    (folder / "bin" / "seqkd").write_text(SEQKD)
    (folder / "bin" / "seqkd").chmod(0o755)
    return folder


def blocks(page: str) -> list[str]:
    """The blocks of a page that run here."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [code for kind, code in BLOCK.findall(text) if kind == "sh"]
    starts, chosen = list(READ[page]), []
    for code in found:
        if starts and code.startswith(starts[0]):
            chosen.append(code)
            starts.pop(0)
    assert not starts, f"{page} has no block that begins with {starts}"
    return chosen


@pytest.mark.slow
def test_pages_are_followed_from_the_first_to_the_last(place):
    path = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)}
    (place / "runs" / "mine").mkdir(parents=True)
    (place / "runs" / "demo").symlink_to("mine")  # as if it were the demo's run
    for page, code in [(name, code) for name in READ for code in blocks(name)]:
        for folder in re.findall("--out (student|distilled)", code):  # each page begins anew
            shutil.rmtree(place / folder, ignore_errors=True)
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", code],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{page}:\n{code}\n{done.stderr[-3000:]}"
        if page == "README.md" and (place / "student").exists():
            shutil.copytree(place / "student", place / "runs" / "demo" / "seq-kd")
