"""Lists of other systems, in their own formats, by the commands and scripts of docs/teachers.md."""

import math
import re
import shutil
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from test_readme import ROOT

from seqkd_jax.decode.nbest import NBest, read_nbest

PAGE = (ROOT / "docs" / "teachers.md").read_text(encoding="utf-8")
WANT = [
    NBest(0, ("ein Hund schläft", "der Hund"), (), (-1.5, -2.25), (-1.5, -2.25)),
    NBest(1, ("eine Katze |||", "Katze"), (), (-0.5, -3.0), (-0.5, -3.0)),
]


def recipe(title: str, language: str) -> str:
    """The block of code in a section of the page."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)[0]


def convert(title: str, folder, lines: int = 2) -> list[NBest]:
    """Runs the lines of a recipe that follow the other system's command, and reads the result."""
    code = recipe(title, "bash").replace("\\\n", " ").split("\n", 1)[1].replace("n=5", f"n={lines}")
    subprocess.run(["bash", "-euo", "pipefail", "-c", code], cwd=folder, check=True)
    return read_nbest(folder / "nbest.txt")[1]


def same(found: list[NBest], want: list[NBest]) -> None:
    assert [(n.index, n.texts) for n in found] == [(n.index, n.texts) for n in want]
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a.log_probs, b.log_probs, rtol=1e-5)
        np.testing.assert_allclose(a.scores, b.scores, rtol=1e-5)


needs_awk = pytest.mark.skipif(not shutil.which("awk"), reason="no awk")


@needs_awk
def test_opennmt_py(tmp_path):
    rows = [f"{text}\t{p}\n" for n in WANT for text, p in zip(n.texts, n.log_probs, strict=True)]
    (tmp_path / "opennmt.tsv").write_text("".join(rows), encoding="utf-8")
    same(convert("OpenNMT-py", tmp_path), WANT)


@needs_awk
def test_fairseq_whose_lines_are_out_of_order_and_to_base_2(tmp_path):
    lines = ["2026-01-01 10:00:00 | INFO | fairseq_cli.interactive | Namespace(beam=5)"]
    for n in reversed(WANT):
        lines += [f"S-{n.index}\ta source D-9", f"W-{n.index}\t0.2\tseconds"]
        for text, p in zip(n.texts, n.log_probs, strict=True):
            base_2 = p / math.log(2)
            lines += [f"H-{n.index}\t{base_2}\t{text}", f"D-{n.index}\t{base_2}\t{text}"]
            lines += [f"P-{n.index}\t-0.1000 -0.2000"]
    (tmp_path / "fairseq.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    same(convert("fairseq", tmp_path), WANT)


@pytest.mark.parametrize("feature", ["F0=", "F0= "], ids=["one-model", "features"])
def test_marian_with_and_without_the_conversion(tmp_path, feature):
    rows = [
        f"{n.index} ||| {text} ||| {feature}{p} ||| {p / 4}\n"
        for n in WANT
        for text, p in zip(n.texts, n.log_probs, strict=True)
    ]
    (tmp_path / "marian.txt").write_text("".join(rows), encoding="utf-8")
    ranked = [NBest(n.index, n.texts, (), tuple(p / 4 for p in n.scores), ()) for n in WANT]
    same(read_nbest(tmp_path / "marian.txt")[1], ranked)
    want = [
        NBest(n.index, n.texts, (), r.scores, n.log_probs)
        for n, r in zip(WANT, ranked, strict=True)
    ]
    same(convert("Marian", tmp_path), want)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a recipe in Python beside stand-ins for the packages that it imports."""

    def run_with(title: str, **modules) -> list[NBest]:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "train.en").write_text("a dog sleeps\na cat\n", encoding="utf-8")
        for name, values in modules.items():
            module = ModuleType(name)
            vars(module).update(values)
            monkeypatch.setitem(sys.modules, name, module)
        code = recipe(title, "py").replace('k = "Helsinki-NLP/opus-mt-en-de", 5', 'k = "", 2')
        exec(compile(code, title, "exec"), {"__name__": "recipe"})
        return read_nbest(tmp_path / "nbest.jsonl")[1]

    return run_with


def test_ctranslate2(run):
    class Translator:
        def __init__(self, model):
            pass

        def translate_batch(self, lines, *, beam_size, num_hypotheses, **options):
            assert lines == [["a", "dog", "sleeps"], ["a", "cat"]] and beam_size >= num_hypotheses
            assert options["length_penalty"] == 0 and options["return_scores"]
            hypotheses = [[text.split(" ") for text in n.texts] for n in WANT]
            return [
                SimpleNamespace(hypotheses=tokens, scores=list(n.scores))
                for tokens, n in zip(hypotheses, WANT, strict=True)
            ]

    class Pieces:
        def __init__(self, path):
            pass

        def encode(self, text, out_type):
            assert out_type is str
            return text.split(" ")

        def decode(self, tokens):
            return " ".join(tokens)

    found = run(
        "CTranslate2",
        ctranslate2={"Translator": Translator},
        sentencepiece={"SentencePieceProcessor": Pieces},
    )
    same(found, WANT)


def test_hugging_face(run):
    class Tokenizer:
        def __call__(self, lines, return_tensors, padding):
            assert lines == ["a dog sleeps", "a cat"] and padding
            return {"input_ids": [0, 1]}

        def batch_decode(self, sequences, skip_special_tokens):
            assert skip_special_tokens
            return sequences

    class Model:
        def generate(self, input_ids, *, num_beams, num_return_sequences, **options):
            assert num_beams >= num_return_sequences and options["length_penalty"] == 0
            assert options["return_dict_in_generate"] and options["output_scores"]
            found = [WANT[number] for number in input_ids]
            return SimpleNamespace(
                sequences=[text for n in found for text in n.texts],
                sequences_scores=np.array([score for n in found for score in n.scores]),
            )

    found = run(
        "Hugging Face",
        transformers={
            "AutoTokenizer": SimpleNamespace(from_pretrained=lambda name: Tokenizer()),
            "AutoModelForSeq2SeqLM": SimpleNamespace(from_pretrained=lambda name: Model()),
        },
    )
    same(found, WANT)


def test_the_files_shown_are_read(tmp_path):
    for name, language in ("a.jsonl", "json"), ("a.txt", "text"):
        (tmp_path / name).write_text(recipe("What a file looks like", language), encoding="utf-8")
    (shown,), (moses,) = (read_nbest(tmp_path / name)[1] for name in ("a.jsonl", "a.txt"))
    np.testing.assert_allclose(moses.scores, shown.scores, rtol=1e-6)
    assert (moses.texts, moses.log_probs) == (shown.texts, shown.log_probs)
