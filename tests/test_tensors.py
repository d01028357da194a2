"""Parameters out to safetensors and in again, and model cards."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from small_folder import write_small

from seqkd_jax.__main__ import main
from seqkd_jax.card import card_text, model_card
from seqkd_jax.errors import UsageError
from seqkd_jax.evaluation import Decoding, Evaluation
from seqkd_jax.model_folder import describe_model, load_model, open_model
from seqkd_jax.report.records import EVALUATION, evaluation_record
from seqkd_jax.report.results import write_results
from seqkd_jax.report.table import Row
from seqkd_jax.sealed import write_record
from seqkd_jax.tensors import read_tensors, write_tensors

safetensors = pytest.importorskip("safetensors.numpy")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("model") / "small")


def test_parameters_go_out_and_come_back_as_a_model(folder, tmp_path, capsys):
    trained = load_model(folder)
    path = tmp_path / "student.safetensors"
    assert main(["export", str(folder), "--out", str(path)]) == 0
    assert f"{path}: {path.stat().st_size:,} bytes" in capsys.readouterr().out
    named = safetensors.load_file(path)  # as another tool reads it
    np.testing.assert_array_equal(named["generator.kernel"], trained.params.generator.kernel)
    assert "decoder.layers.0.recurrent" in named
    again = tmp_path / "again"
    again.mkdir()
    for name in ("src.vocab.json", "tgt.vocab.json"):
        shutil.copy(folder / name, again / name)
    describe_model(again, trained, {"from": "elsewhere"})
    shutil.copy(path, again / "params.safetensors")
    assert load_model(again).digest == trained.digest
    (again / "checkpoints" / "1").mkdir(parents=True)
    with pytest.raises(UsageError, match="holds params.safetensors and checkpoints"):
        load_model(again)


def test_a_file_of_another_tool_is_read_without_a_digest(folder, tmp_path):
    trained = load_model(folder)
    path = tmp_path / "x.safetensors"
    write_tensors(path, trained)
    changed = {name: 2 * array for name, array in safetensors.load_file(path).items()}
    safetensors.save_file(changed, path)
    read = read_tensors(path, trained.params)
    jax.tree.map(
        lambda x, y: np.testing.assert_array_equal(x, 2 * np.asarray(y)), read, trained.params
    )


def test_what_is_no_file_of_the_model_is_refused(folder, tmp_path):
    trained = load_model(folder)
    path = tmp_path / "x.safetensors"
    write_tensors(path, trained)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UsageError, match="do not match the digest"):
        read_tensors(path, trained.params)
    path.write_bytes(data[:100])
    with pytest.raises(UsageError, match="damaged, or no safetensors file"):
        read_tensors(path, trained.params)
    safetensors.save_file({"generator.bias": np.zeros(3, np.float32)}, path)
    with pytest.raises(UsageError, match="is None in the file but"):
        read_tensors(path, trained.params)
    write_tensors(path, trained)
    half = {name: x.astype(np.float16) for name, x in safetensors.load_file(path).items()}
    safetensors.save_file(half, path)
    with pytest.raises(UsageError, match="of type F16, and parameters are float32"):
        read_tensors(path, trained.params)
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "none", trained.params)


def test_options_that_safetensors_would_ignore_are_refused(folder, tmp_path, capsys):
    out = str(tmp_path / "x.safetensors")
    assert main(["export", str(folder), "--out", out, "--weights", "int8"]) == 2
    assert "holds the parameters alone" in capsys.readouterr().err


def scored(folder, bleu):
    """Notes an evaluation in a model's folder; returns it."""
    decoding = Decoding(bleu=bleu, chrf=50.0, sentences_per_second=1.0, words_per_second=9.0)
    evaluation = Evaluation({5: decoding}, 4.0, 0.1, 100, "nrefs:1|tok:13a", "chrF2|nc:6", 7)
    stamp = {"model": load_model(folder).digest, "test": "0" * 64}
    record = {"of": stamp, "evaluation": evaluation_record(evaluation, outputs=True)}
    write_record(folder / "evaluation.json", EVALUATION, record)
    return evaluation


def test_a_card_says_what_taught_the_model_and_its_scores(folder, tmp_path):
    teacher, student = (
        write_small(tmp_path / name, seed) for name, seed in (("teacher", 1), ("s", 2))
    )
    trained = load_model(student)
    (student / "config.json").unlink()
    describe_model(student, trained, {"kd_beam": 5, "pairs": "9" * 64, "seed": 1, "compressed": ""})
    evaluation = scored(student, 31.25)
    scored(teacher, 33.5)
    write_results(
        tmp_path / "results.json", {"corpus": "grammar en-de"}, [Row("s", (evaluation,), {})]
    )
    card = json.loads(json.dumps(model_card(student, trained)))
    assert card["teacher"]["digest"] == load_model(teacher).digest
    assert card["teacher"]["scores"]["decodings"]["5"]["bleu"] == 33.5
    assert card["scores"]["bleu_signature"] == "nrefs:1|tok:13a"
    text = card_text(card)
    for part in (
        "Seq-KD on the teacher's translations, with a beam of 5.",
        f"Teacher: teacher, 1 x 8, parameters {load_model(teacher).digest[:12]}.",
        "Corpus: grammar en-de.",
        "| s | 5 | 31.25 | 50.00 | 4.00 | 7 |",
        "| teacher | 5 | 33.50 |",
        "- nrefs:1|tok:13a",
        trained.digest,
    ):
        assert part in text


def test_a_card_says_all_that_a_compressed_student_went_through(tmp_path):
    write_small(tmp_path / "teacher", 1)
    steps = {"kd_beam": 5, "pairs": "9" * 64, "seed": 1}, {"mask": "7" * 64}, {"bits": 3}
    trained = replace(load_model(write_small(tmp_path / "first", 2)), history=())
    for number, made_by in enumerate(steps):
        folder = tmp_path / str(number)
        describe_model(folder, trained, made_by)
        trained = open_model(folder).with_params(trained.params)
    assert [record.get("bits") for record in trained.history] == [None, None, 3]
    card = model_card(folder, trained)
    assert [text.split(",")[0] for text in card["method"]] == [
        "Seq-KD on the teacher's translations",
        "weights pruned",
        "weights share values",
    ]
    assert card["teacher"]["name"] == "teacher"
    assert "Training pairs 999999999999 (sha256), seed 1." in card_text(card)


def test_a_card_knows_text_that_a_teacher_wrote_and_the_folders_of_further_seeds(tmp_path):
    teacher = load_model(write_small(tmp_path / "teacher", 1)).digest
    student = write_small(tmp_path / "seed-2" / "s", 2)
    trained = load_model(student)
    distilled = {"choice": "reference", "beam": 5, "teacher_digest": teacher}
    text = {"corpus": "files en-de", "files": "train.src and train.tgt", "distilled": distilled}
    made_by = {"pairs": "9" * 64, "seed": 2, "text": text, "filters": {"max_ratio": 3.0}}
    (student / "config.json").unlink()
    describe_model(student, trained, made_by)
    described = (student / "config.json").read_bytes()
    describe_model(student, trained, made_by | {"text": {"corpus": "moved en-de"}})
    assert (student / "config.json").read_bytes() == described
    tuned, once, again = tmp_path / "t", {"rate": 1, "text": text}, {"rate": 1, "text": {}}
    describe_model(tuned, replace(trained, history=(once,)), {"seed": 2})
    describe_model(tuned, replace(trained, history=(again,)), {"seed": 2})
    card = model_card(student, load_model(student))
    assert card["teacher"]["name"] == "teacher"
    said = card_text(card)
    for part in (
        "- Seq-Inter: of a teacher's translations, those closest to the references, with a beam of",
        "- without pairs that look wrong.",
        "- Corpus: files en-de (train.src and train.tgt).",
    ):
        assert part in said
    assert "The sentence pairs themselves" not in said
    write_results(tmp_path / "results.json", {"corpus": "grammar en-de"}, [])
    assert model_card(student, load_model(student))["experiment"] == {"corpus": "grammar en-de"}
    other = write_small(tmp_path / "other", 3)
    with pytest.raises(UsageError, match="not the model that taught this student"):
        scored(other, 1.0)
        model_card(student, load_model(student), other)


def test_scores_of_other_parameters_and_other_teachers_are_not_believed(folder, tmp_path):
    model, other = (write_small(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 2)))
    scored(model, 1.0)
    shutil.copy(model / "evaluation.json", other / "evaluation.json")
    card = model_card(other, load_model(other))
    assert "scores" not in card and "teacher" not in card
    assert "None are on record" in card_text(card)
    trained = load_model(other)
    (other / "config.json").unlink()
    describe_model(other, trained, {"teacher_digest": "1" * 64, "kd_weight": 0.5, "compressed": ""})
    with pytest.raises(UsageError, match="not the model that taught this student"):
        model_card(other, trained, model)
