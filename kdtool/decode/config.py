"""Options of the decode step."""

from dataclasses import dataclass, field
from pathlib import Path


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@dataclass(frozen=True)
class Config:
    """Options of the decode step."""

    graph: Path | None = field(default=None, metadata=_help("graph folder; GMMs and hybrid students are decoded with one"))
    engine: str = field(
        default="auto", metadata={**_help("search engine: k2 (batches), native (C++), auto: native on the CPU"), "before": "native"}
    )
    rescore_lm: Path | None = field(default=None, metadata=_help("LM folder whose lm.bin re-ranks the n-best list (words only)"))
    ref_ali: Path | None = field(default=None, metadata=_help("alignment folder whose phones are the reference (phone graphs)"))
    scales_from: Path | None = field(
        default=None, metadata=_help("decode folder of another set, or folder of pool_scales, whose scales to use")
    )
    candidates_from: Path | None = field(
        default=None, metadata=_help("decode folder of the same model, set and graph: score its candidates, do not search again")
    )
    lm_scale: float | None = field(default=None, metadata=_help("LM scale of the search (default: words 12, phones 7; students 8 and 3)"))
    prior_scale: float = field(default=0.75, metadata=_help("share of the log-prior that the search subtracts (students)"))
    lm_scales: list = field(default_factory=list, metadata=_help("LM scales to choose from; empty: a range around the search's"))
    prior_scales: list = field(default_factory=lambda: [0.5, 0.75, 1.0], metadata=_help("prior scales to choose from (students)"))
    penalties: list = field(default_factory=lambda: [0.0], metadata=_help("word insertion penalties to choose from, nats added per word"))
    search_beam: float = field(default=15.0, metadata=_help("beam of the search, in nats of the LM"))
    output_beam: float = field(default=5.0, metadata=_help("beam of the lattice, in nats of the LM"))
    max_active: int = field(default=3000, metadata=_help("largest number of active graph states per frame"))
    min_active: int = field(default=30, metadata=_help("smallest number of active graph states per frame, as far as there are paths"))
    adapt_passes: int = field(default=1, metadata=_help("number of fMLLR estimates per speaker before the last search (SAT GMMs)"))
    nbest: int = field(default=100, metadata=_help("candidates per utterance for rescoring"))
    max_tokens: int = field(default=200, metadata=_help("partial sequences kept per frame for the n-best list"))
    max_failed: float = field(default=0.05, metadata=_help("largest share of utterances without a path (then all deletions) or reference"))
