"""Options of the aligner."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Config:
    """Options of `kdtool align`."""

    model: Path | None = field(default=None, metadata={"help": "GMM folder (monophone or triphone); required"})
    out: Path | None = field(default=None, metadata={"help": "output folder; required"})
    lang: Path | None = field(default=None, metadata={"help": "the model's lang folder (else MODEL/lang or MODEL/../../data/lang)"})
    lexicon: Path | None = field(default=None, metadata={"help": "pronunciations that override those of the lang folder"})
    g2p: bool = field(default=True, metadata={"help": "predict pronunciations of unknown words by G2P; false: spoken noise"})
    g2p_max_words: int = field(default=20000, metadata={"help": "lexicon words for training the G2P model, 0 for all"})
    layout: str = field(default="auto", metadata={"help": "beside: text beside each audio file; librispeech; kaldi; auto"})
    speaker: str = field(default="file", metadata={"help": "what counts as one speaker for normalisation: file, or folder"})
    channel: str = field(default="mix", metadata={"help": "channel of the audio from 1, or mix: their mean"})
    states: bool = field(default=False, metadata={"help": "also write HMM states: a tier, states.ctm, in JSON and Lhotse"})
    posterior_scale: float = field(default=0.1, metadata={"help": "acoustic scale for the confidences"})
    min_silence: float = field(default=0.06, metadata={"help": "shorter silences (s) between words become part of the next phone"})
    refine: bool = field(default=True, metadata={"help": "move the edges of silence to steps in the waveform's energy"})
    report: int = field(default=10, metadata={"help": "number of files on the report page, worst fit first"})
    report_files: list[str] = field(default_factory=list, metadata={"help": "their names instead, as in files.tsv: [a, b/c]"})
    max_failed: float = field(default=0.0, metadata={"help": "largest share of failed files for exit status 0", "key": False})
