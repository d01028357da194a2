"""Students as ONNX graphs, run with numpy and ONNX Runtime alone. Floor 0.

    student = load_onnx("student.onnx")               # of ``seqkd export``
    student.translate(["ein hund schläft ."])

The graph is the whole greedy search; vocabularies and limits are in the file's metadata. Needs the
package ``onnxruntime``.
"""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import tokens
from .errors import SourceCut, UsageError, require_lines

FORMAT = "seqkd-onnx-1"
BATCH = 64  # sentences that are searched together


class OnnxStudent:
    """A student that translates greedily; see ``load_onnx``."""

    def __init__(self, session: Any, about: dict[str, Any]):
        source, target = about["vocabularies"]
        self._session = session
        self._encode = tokens.encoder(
            source["kind"], source["tokens"], source["scores"], source["lower"]
        )
        self._decode = tokens.decoder(target["kind"], target["tokens"])
        self._limits: list[int] = about["limits"]  # of a translation, by the source's tokens
        self.card: dict[str, Any] = about["card"]

    def translate(self, lines: Sequence[str], batch: int = BATCH) -> list[str]:
        """Returns the translation of each line; empty lines stay empty.

        Args:
          lines: sentences; those that are too long are cut, with a warning.
          batch: sentences that are searched together.
        """
        require_lines(lines)
        longest = len(self._limits) - 1
        ids = [self._encode(line) for line in lines]
        if long := sum(len(sentence) > longest for sentence in ids):
            warnings.warn(
                f"{long:,} of {len(ids):,} sources are longer than {longest} tokens and were cut.",
                SourceCut,
                stacklevel=2,
            )
        ids = [sentence[:longest] for sentence in ids]
        order = sorted((n for n, s in enumerate(ids) if s), key=lambda n: -len(ids[n]))
        translations = [""] * len(lines)
        for start in range(0, len(order), batch):
            some = order[start : start + batch]
            for n, found in zip(some, self._search([ids[n] for n in some]), strict=True):
                translations[n] = self._decode(found)
        return translations

    def _search(self, sources: Sequence[Sequence[int]]) -> list[list[int]]:
        lengths = np.array([len(source) for source in sources], np.int32)
        src = np.full((len(sources), lengths.max()), tokens.PAD, np.int64)
        for row, source in enumerate(sources):
            src[row, : len(source)] = source
        limits = np.array([self._limits[n] for n in lengths], np.int64)
        (found,) = self._session.run(None, {"src": src, "lengths": lengths, "limits": limits})
        return [row[: row.index(tokens.EOS)] for row in found.T.tolist()]


def load_onnx(path: str | Path, **options: Any) -> OnnxStudent:
    """Loads a student that ``seqkd export`` has written as NAME.onnx.

    Args:
      path: the file.
      **options: of ``onnxruntime.InferenceSession``, such as ``sess_options``.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: ONNX Runtime is not installed, or it cannot read the file, or the file was not
        written by this library.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        import onnxruntime
    except ImportError:
        raise UsageError(
            "Files of the ONNX format need a package: pip install onnx onnxruntime."
        ) from None
    options.setdefault("providers", ["CPUExecutionProvider"])
    try:
        session = onnxruntime.InferenceSession(str(path), **options)
    except Exception as error:  # its own classes of errors have no common base
        raise UsageError(
            f"{path}: ONNX Runtime cannot read this file ({' '.join(str(error).split())}); export "
            "the model again."
        ) from None
    metadata = session.get_modelmeta().custom_metadata_map
    if metadata.get("format") != FORMAT:
        raise UsageError(
            f"{path}: not a student of this library; seqkd export writes one as NAME.onnx."
        )
    return OnnxStudent(session, json.loads(metadata["about"]))
