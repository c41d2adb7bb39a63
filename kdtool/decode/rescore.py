"""Scores of another LM.  In: a word graph's paths, a KenLM model.  Out: their scores with this LM in place of the graph's, nats."""

import math
from pathlib import Path
from typing import Any

from kdtool.core.errors import KdError


class Rescorer:
    """Scores of a word graph's paths with another LM (a KenLM model) in place of the graph's, in nats."""

    def __init__(self, lm_dir: Path, graph_dir: Path, silence_prob: float | None) -> None:
        self._model = _kenlm(Path(lm_dir) / "lm.bin", "train the LM again")
        if silence_prob not in (None, 0.5):
            raise KdError(f"the graph's silence probability is {silence_prob}; rescoring supports 0.5 only: make the graph again")
        self._first = None
        if silence_prob is None:
            again = "make the graph again from an LM folder that has it"
            self._first = _kenlm(Path(graph_dir) / "lm.bin", again)

    def __call__(self, words: tuple[str, ...], graph_score: float) -> float:
        """graph_score: the path's in the graph."""
        # With probability 1/2, silence and no silence cost the same at every place. Otherwise the lexicon's
        # probabilities contribute the difference between the graph's score and its LM's.
        lexicon = graph_score - _sentence(self._first, words) if self._first else (len(words) + 1) * math.log(0.5)
        return _sentence(self._model, words) + lexicon


def _kenlm(path: Path, remedy: str) -> Any:
    import kenlm

    try:
        return kenlm.Model(str(path))
    except OSError as e:
        raise KdError(f"{path}: unreadable KenLM model ({e}); {remedy}") from e


def _sentence(model: Any, words: tuple[str, ...]) -> float:
    return float(model.score(" ".join(words), bos=True, eos=True)) * math.log(10.0)
