"""Options of the aligner."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Config:
    """Options of `kdtool align`."""

    model: Path | None = field(default=None, metadata={"help": "GMM folder (monophone or triphone); required"})
    out: Path | None = field(default=None, metadata={"help": "output folder; required"})
    lang: Path | None = field(default=None, metadata={"help": "the model's lang folder (else MODEL/lang or MODEL/../../data/lang)"})
    lexicon: Path | None = field(default=None, metadata={"help": "pronunciations that replace those of the lang folder"})
    g2p: bool = field(default=True, metadata={"help": "predict pronunciations of unknown words by G2P; false: align them as spoken noise"})
    g2p_max_words: int = field(default=20000, metadata={"help": "lexicon words for training the G2P model, 0 for all"})
    layout: str = field(default="auto", metadata={"help": "beside: text beside each audio file; librispeech; kaldi; auto"})
    speaker: str = field(default="file", metadata={"help": "normalisation unit: each file is one speaker, or each folder"})
    channel: str = field(default="mix", metadata={"help": "audio channel (1, 2, ..), or mix: the mean of all"})
    states: bool = field(default=False, metadata={"help": "also write HMM states (TextGrid tier, states.ctm, JSON, Lhotse)"})
    posterior_scale: float = field(default=0.1, metadata={"help": "acoustic scale for the confidences"})
    min_silence: float = field(default=0.06, metadata={"help": "silences between words shorter than this (s) join the next phone"})
    refine: bool = field(default=True, metadata={"help": "move the edges of silence to energy steps in the waveform"})
    report: int = field(default=10, metadata={"help": "number of files on the report page, worst fit first"})
    report_files: list[str] = field(default_factory=list, metadata={"help": "files on the report page, named as in files.tsv: [a, b/c]"})
    max_failed: float = field(default=0.0, metadata={"help": "exit status 0 up to this share of failed files", "key": False})
