"""Commands that put models to use: translate, score, extract, export."""

import functools
import io
import itertools
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .. import __version__, arguments, console
from ..card import card_text, model_card
from ..data import check_same, encode_pairs, require_kept
from ..data.lines import read_pairs
from ..data.text import is_table, write_lines
from ..data.waiting import count_lines, first_columns, open_text, waiting_lines
from ..decode.lists import NBest, moses_lines
from ..decode.shortlist import Shortlist, fit_shortlist
from ..decode.translation import STREAM_SENTENCES, translate_stream
from ..decode.unknown import check_replaceable, read_dictionary, without_unknown
from ..errors import UsageError
from ..evaluation import log_probs
from ..export import export_model
from ..exported import FORMAT
from ..files import atomic_write
from ..model_folder import load_model
from ..models.ensemble import ensemble
from ..models.inspection import states
from ..onnx_export import export_onnx
from ..progress import Bar
from ..sealed import beginning, check_output_file
from ..settings import GREEDY
from ..tensors import write_tensors
from ..trained import TrainedModel
from .process import prepare

# How the files of an export begin: the model, and its card.
EXPORTS = {
    ".seqkdx": beginning(FORMAT),
    ".safetensors": re.compile(rb".{8}\{", re.DOTALL),  # the size of the header, and JSON
    ".onnx": re.compile(b"\x08"),  # the version of the format, the first field of a protobuf
    ".json": re.compile(rb"\{"),
    ".md": re.compile(b"# "),
}


def translate(command: arguments.Translate) -> None:
    """Translates lines of text as soon as they arrive."""
    prepare()
    if command.out:
        read = command.source, command.dictionary, *(command.shortlist or ())
        check_output_file(command.out, inputs=read)
    if command.scores and command.search.n_best > 1:
        raise UsageError(
            "--scores has no effect with --n-best, whose output has the scores: leave out --scores."
        )
    trained = _ensemble(command.models, [load_model(folder) for folder in command.models])
    if command.dictionary and not command.replace_unk:
        raise UsageError(
            "--dictionary has no effect without --replace-unk: give both, or leave out "
            "--dictionary."
        )
    dictionary = read_dictionary(command.dictionary) if command.dictionary else {}
    if command.replace_unk:
        check_replaceable(trained)
    shortlist = (
        fitted_shortlist(trained, read_pairs(*command.shortlist)) if command.shortlist else None
    )
    # A bar would be in the way of lines that are typed at a terminal or shown there.
    typed = not command.source and sys.stdin.isatty()
    seen = not command.out and sys.stdout.isatty()
    total = count_lines(command.source) if command.source else None
    with (
        open_text(command.source) as (file, name),
        Bar(desc=None if typed or seen else "translating", unit="sentence", total=total) as bar,
    ):
        lines = waiting_lines(file, name, STREAM_SENTENCES)
        table = command.source and is_table(command.source)
        lines = (first_columns if table else _warned_of_tabs)(lines, name)
        stream = translate_stream(trained, lines, command.search, shortlist=shortlist, bar=bar)
        if command.replace_unk:
            most = command.search.max_source
            stream = (
                (lines, without_unknown(trained, lines, nbest, dictionary, most))
                for lines, nbest in stream
            )
        answers = ([line for n in nbest for line in _shown(n, command)] for _, nbest in stream)
        if command.out:
            write_lines(command.out, itertools.chain.from_iterable(answers))
            return
        for answer in answers:
            sys.stdout.write("".join(line + "\n" for line in answer))
            sys.stdout.flush()


def _warned_of_tabs(batches: Iterator[list[str]], name: str) -> Iterator[list[str]]:
    """Yields lines in their batches, and warns of the first line that has a tab."""
    first, warned = 1, False
    for lines in batches:
        tabs = [number for number, line in enumerate(lines, first) if "\t" in line]
        if tabs and not warned:
            warned = True
            console.warn(
                f"{name}:{tabs[0]}: there is a tab, and the whole line is translated. Of a table, "
                "give the source column alone (cut -f1), or a file whose name ends in .tsv."
            )
        first += len(lines)
        yield lines


def score(command: arguments.Score) -> None:
    """Prints the log-probability of each sentence pair."""
    prepare()
    pairs = read_pairs(command.source, command.target)
    trained = load_model(command.model)
    encoded = encode_pairs(pairs, trained.src_vocab, trained.tgt_vocab)
    scores = dict(
        zip(
            encoded.index.tolist(),
            log_probs(trained.model, trained.params, encoded).tolist(),
            strict=True,
        )
    )
    for index in range(len(pairs)):
        print(f"{scores[index]:.4f}" if index in scores else "")
    console.note(str(encoded.report))
    if scores:
        total, tokens = sum(scores.values()), sum(map(len, encoded.tgt))
        console.note(
            f"average {total / len(scores):.4f} per pair, {total / tokens:.4f} per token; "
            f"perplexity {math.exp(-total / tokens):.4f}"
        )


def extract(command: arguments.Extract) -> None:
    """Writes a model's states and attention while it reads and predicts sentence pairs."""
    prepare()
    check_output_file(command.out, re.compile(b"PK"))  # .npz files are zip files
    pairs = read_pairs(command.source, command.target)
    trained = load_model(command.model)
    network = trained.network
    encoded = encode_pairs(pairs, trained.src_vocab, trained.tgt_vocab)
    require_kept(encoded, str(command.source))
    run = jax.jit(functools.partial(states, network))
    rows: dict[str, list[np.ndarray]] = {}
    with Bar(total=len(encoded.src), desc="extracting", unit="pair") as bar:
        for src, tgt in zip(encoded.src, encoded.tgt, strict=True):
            # Lengths are rounded up, so that few shapes are compiled; padding is cut off below.
            found = run(trained.params, padded(src), padded(tgt))
            for name, x in found.items():
                x = np.asarray(x)[: len(src) if name == "encoder" else len(tgt)]
                x = x[:, : len(src)].reshape(-1) if name == "attention" else x
                rows.setdefault(name, []).append(x)
            bar.update()
    arrays = {name: np.concatenate(parts) for name, parts in rows.items()}
    for side, ids in ("source", encoded.src), ("target", encoded.tgt):
        arrays[f"{side}_offsets"] = np.cumsum([0, *map(len, ids)])
    arrays["lines"] = encoded.index + 1
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    atomic_write(command.out, file.getvalue())
    console.note(str(encoded.report))
    print(f"{command.out}: {len(encoded.src):,} pairs; {', '.join(arrays)}.")


def export(command: arguments.Export) -> None:
    """Writes a model as one file to serve, or its parameters alone, and its card beside it."""
    prepare()
    form = command.out.suffix
    if form not in (".seqkdx", ".safetensors", ".onnx"):
        raise UsageError(
            f"{command.out}: the ending of the name says what is written: .seqkdx, .safetensors or "
            ".onnx."
        )
    default = arguments.Export(
        command.model, command.out, teacher=command.teacher, messages=command.messages
    )
    if form == ".safetensors" and command != default:
        raise UsageError(
            "A .safetensors file holds the parameters alone, in float32: --weights, --platforms "
            "and the options of a search have no effect; leave them out."
        )
    if form == ".onnx" and command != replace(default, search=command.search):
        raise UsageError(
            "An .onnx file holds float32 weights and runs wherever ONNX Runtime does: --weights "
            "and --platforms have no effect; leave them out."
        )
    name = command.out.name  # with its ending: a card belongs to one file
    as_json, as_text = (command.out.with_name(f"{name}.card.{kind}") for kind in ("json", "md"))
    for path, kind in ((command.out, form), (as_json, ".json"), (as_text, ".md")):
        check_output_file(path, EXPORTS[kind])
    trained = load_model(command.model)
    card = model_card(command.model, trained, command.teacher)
    if form == ".safetensors":
        said = write_tensors(command.out, trained)
    elif form == ".onnx":
        search = GREEDY if command.search == default.search else command.search
        said = f"{export_onnx(command.out, trained, search, card=card):,} bytes"
    else:
        said = _exported(command, trained, card)
    atomic_write(as_json, (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode())
    atomic_write(as_text, card_text(card).encode())
    print(f"{command.out}: {said}. The card: {as_text}.")


def _exported(command: arguments.Export, trained: TrainedModel, card: dict[str, Any]) -> str:
    """Writes the file to serve, notes in the card how, and returns what its parts take."""
    card["exported"] = {
        "weights": command.weights,
        "platforms": command.platforms,
        "search": vars(command.search),
        "jax": jax.__version__,
        "seqkd_jax": __version__,
    }
    sizes = export_model(
        command.out,
        trained,
        command.search,
        weights=command.weights,
        platforms=command.platforms,
        card=card,
    )
    return (
        f"{sizes.file:,} bytes: weights {sizes.weights:,}, programs {sizes.programs:,}, "
        f"vocabularies and card {sizes.about:,}"
    )


def padded(ids: np.ndarray) -> np.ndarray:
    """Returns ids [S], or rows of ids [S, C], filled with PAD to a multiple of 8."""
    return np.pad(ids, ((0, -len(ids) % 8), *((0, 0) for _ in ids.shape[1:])))


def fitted_shortlist(trained: TrainedModel, pairs: Sequence[tuple[str, str]]) -> Shortlist:
    """Fits a shortlist for a model."""
    vocabularies = trained.src_vocab, trained.tgt_vocab
    sizes = [vocabulary.size for vocabulary in vocabularies]
    return fit_shortlist(encode_pairs(pairs, *vocabularies), *sizes)


def _ensemble(folders: Sequence[Path], members: Sequence[TrainedModel]) -> TrainedModel:
    if not members:
        raise UsageError("Name at least one folder of a trained model.")
    first = members[0]
    why = "The members of an ensemble must read and predict the same ids: leave out one of the two."
    for folder, other in zip(folders[1:], members[1:], strict=True):
        names = str(folders[0]), str(folder)
        check_same(first.src_vocab, other.src_vocab, names, why)
        check_same(first.tgt_vocab, other.tgt_vocab, names, why)
    if len(members) == 1:
        return first
    return TrainedModel(
        ensemble([member.model for member in members]),
        tuple(member.params for member in members),
        first.src_vocab,
        first.tgt_vocab,
    )


def _shown(nbest: NBest, command: arguments.Translate) -> list[str]:
    """Returns the lines of one sentence: its translation, or its n-best list in Moses' format."""
    if command.search.n_best > 1:
        return moses_lines(nbest)
    if command.scores:
        return [f"{nbest.log_probs[0]:.4f}\t{nbest.texts[0]}"]
    return [nbest.texts[0]]
