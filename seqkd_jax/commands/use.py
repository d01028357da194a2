"""Commands that put models to use: translate, score, extract."""

import functools
import io
import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from .. import arguments
from ..data import check_same, encode_pairs, require_kept
from ..data.inputs import spelling_of
from ..data.text import is_table, read_pairs, write_lines
from ..data.waiting import first_columns, open_text, waiting_lines
from ..distill.nbest import NBest, moses_lines
from ..distill.shortlist import Shortlist, fit_shortlist
from ..distill.translate import STREAM_SENTENCES, translate_stream
from ..distill.unknown import check_replaceable, read_dictionary, without_unknown
from ..errors import UsageError
from ..evaluate import log_probs
from ..files import atomic_write, check_writable
from ..models.ensemble import ensemble
from ..models.inspection import states
from ..train.model_folder import Trained, load_model
from .process import prepare


def translate(command: arguments.Translate) -> None:
    """Translates lines of text, each as soon as it is there."""
    prepare()
    if command.out:
        check_writable(command.out)
    if command.scores and command.search.n_best > 1:
        raise UsageError(
            "--scores has no effect with --n-best, whose output has the scores: leave it out."
        )
    trained = _ensemble(command.models, [load_model(folder) for folder in command.models])
    if command.dictionary and not command.replace_unk:
        raise UsageError(
            "--dictionary has no effect without --replace-unk: give both, or leave it out."
        )
    dictionary = read_dictionary(command.dictionary) if command.dictionary else {}
    if command.replace_unk:
        check_replaceable(trained)
    shortlist = (
        fitted_shortlist(trained, read_pairs(*command.shortlist)) if command.shortlist else None
    )
    # Between lines that are typed a bar would only be in the way.
    shown = None if command.source or not sys.stdin.isatty() else True
    with (
        open_text(command.source) as (file, name),
        tqdm(desc="translating", unit="sent", disable=shown) as bar,
    ):
        lines = waiting_lines(file, name, STREAM_SENTENCES)
        if command.source and is_table(command.source):
            lines = first_columns(lines, name)
        stream = translate_stream(
            trained.model,
            trained.params,
            lines,
            trained.src_vocab,
            trained.tgt_vocab,
            command.search,
            shortlist=shortlist,
            bar=bar,
        )
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


def score(command: arguments.Score) -> None:
    """Prints log-probabilities."""
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
    for place in range(len(pairs)):
        print(f"{scores[place]:.4f}" if place in scores else "")
    print(encoded.report, file=sys.stderr)
    if scores:
        total, tokens = sum(scores.values()), sum(map(len, encoded.tgt))
        print(
            f"average {total / len(scores):.4f} per pair, {total / tokens:.4f} per token; "
            f"perplexity {math.exp(-total / tokens):.4f}",
            file=sys.stderr,
        )


def extract(command: arguments.Extract) -> None:
    """Writes what a model holds while it reads and predicts pairs of sentences."""
    prepare()
    check_writable(command.out)
    pairs = read_pairs(command.source, command.target)
    trained = load_model(command.model)
    config, spelling = trained.config, spelling_of(trained.config.inputs, trained.tgt_vocab)
    encoded = encode_pairs(pairs, trained.src_vocab, trained.tgt_vocab)
    require_kept(encoded, str(command.source))
    run = jax.jit(functools.partial(states, config, spelling=spelling))
    rows: dict[str, list[np.ndarray]] = {}
    with tqdm(total=len(encoded.src), desc="extracting", unit="sent", disable=None) as bar:
        for src, tgt in zip(encoded.src, encoded.tgt, strict=True):
            # A few shapes only: lengths are rounded up, and padding is cut off again.
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
    print(encoded.report, file=sys.stderr)
    print(f"{command.out}: {len(encoded.src):,} pairs; {', '.join(arrays)}.")


def padded(ids: np.ndarray) -> np.ndarray:
    """Ids [S] or rows of ids [S, C], filled with PAD to a multiple of 8."""
    return np.pad(ids, ((0, -len(ids) % 8), *((0, 0) for _ in ids.shape[1:])))


def fitted_shortlist(trained: Trained, pairs: Sequence[tuple[str, str]]) -> Shortlist:
    """Fits a shortlist for a model."""
    vocabularies = trained.src_vocab, trained.tgt_vocab
    sizes = [vocabulary.size for vocabulary in vocabularies]
    return fit_shortlist(encode_pairs(pairs, *vocabularies), *sizes)


def _ensemble(folders: Sequence[Path], members: Sequence[Trained]) -> Trained:
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
    return Trained(
        first.config,
        ensemble([member.model for member in members]),
        tuple(member.params for member in members),
        first.src_vocab,
        first.tgt_vocab,
    )


def _shown(nbest: NBest, command: arguments.Translate) -> list[str]:
    """Lines of one sentence: the translation, or the n-best list as Moses writes it."""
    if command.search.n_best > 1:
        return moses_lines(nbest)
    if command.scores:
        return [f"{nbest.log_probs[0]:.4f}\t{nbest.texts[0]}"]
    return [nbest.texts[0]]
