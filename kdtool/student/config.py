"""Options of a student.  In: YAML fields.  Out: frozen dataclasses.  Imports no torch, so that --help is fast."""

import dataclasses
import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdtool.core.device import DEVICE_HELP, PRECISIONS, check_device
from kdtool.core.errors import UsageError
from kdtool.objectives import MAIN_OBJECTIVES
from kdtool.student.registry import KINDS
from kdtool.units.table import UNITS

POSTS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
TARGETS = {"current": 0, "next": 1, "previous": -1}
CHOICES = {"optimizer": ("adamw", "sgd"), "decay": ("cosine", "exponential", "linear"), "precision": PRECISIONS}


def _help(text: str, **metadata: Any) -> dict[str, Any]:
    return {"help": text, **metadata}


@dataclass(frozen=True)
class StudentConfig:
    """Options of ``steps/train_student.sh``."""

    posts: str = field(default="", metadata=_help("posterior dumps of the teachers, comma-separated [NAME=]FOLDER", key=False))
    # The default is None, not 0: records written before this option existed stay valid.
    minutes: float | None = field(default=None, metadata=_help("limit the training speech to N minutes; none: all of it"))
    kind: str = field(default="hybrid", metadata=_help("student kind: a name in kdtool/student/kinds"))
    kind_options: dict = field(default_factory=dict, metadata=_help("the kind's own options, {l2: 0.0001, ...}"))
    denominator: Path | None = field(default=None, metadata=_help("denominator folder (kind lfmmi; steps/make_denominator.sh)", key=False))
    init: Path | None = field(default=None, metadata=_help("finished student whose weights initialise this one"))
    init_encoder: Path | None = field(default=None, metadata=_help("finished student, of any kind, whose encoder initialises this one's"))
    seed: int = field(default=0, metadata=_help("random seed of weights, order, dropout and masks"))
    encoder: str = field(default="tdnnf", metadata=_help("name of an encoder in kdtool/student/encoders"))
    encoder_options: dict = field(default_factory=dict, metadata=_help("options of the encoder, such as {dim: 512}"))
    hidden: int = field(default=256, metadata=_help("width of the main head's projection below its softmax"))
    head_dropout: float = field(default=0.0, metadata=_help("dropout in the heads' projections"))
    main: str = field(default="ce", metadata=_help("loss of the main head: ce or interpolate"))
    main_options: dict = field(default_factory=dict, metadata=_help("options of the main loss: {label_smoothing: 0.1} or {weight: 0.1}"))
    main_posts: str = field(default="", metadata=_help("name of the main head's dump, as posts of a head"))
    heads: list = field(default_factory=list, metadata=_help("auxiliary heads: [{unit, layer, weight, kind, ..}, ..], see HeadSpec"))
    epochs: float = field(default=10.0, metadata=_help("passes over the utterances; each pass takes one speed copy per utterance"))
    chunk: int = field(default=150, metadata=_help("frames (10 ms) of a training chunk; 0: whole utterances"))
    batch: int = field(default=32, metadata=_help("chunks per update (whole utterances: their mean number per update)"))
    optimizer: str = field(default="adamw", metadata=_help("adamw or sgd"))
    lr: float = field(default=0.002, metadata=_help("highest learning rate"))
    final_lr: float = field(default=0.02, metadata=_help("final learning rate, as a share of the highest"))
    warmup: float = field(default=0.05, metadata=_help("share of the updates with rising learning rate"))
    decay: str = field(default="cosine", metadata=_help("learning-rate decay after warm-up: cosine, exponential or linear"))
    weight_decay: float = field(default=0.01, metadata=_help("decoupled decay of weight matrices"))
    clip: float = field(default=5.0, metadata=_help("largest gradient norm (0: no clipping)"))
    average: float = field(default=0.995, metadata=_help("decay of the moving average of the weights (0: no averaging)"))
    freq_masks: int = field(default=1, metadata=_help("SpecAugment: frequency masks per chunk"))
    freq_width: int = field(default=15, metadata=_help("SpecAugment: widest frequency mask, in bins"))
    warp: float = field(default=0.0, metadata=_help("VTLP: scale frequencies by 1 - warp to 1 + warp, drawn per chunk"))
    band_limit: float = field(default=0.0, metadata=_help("share of chunks whose upper mel bins are emptied, for narrow-band recordings"))
    band_lowest: float = field(default=4000.0, metadata=_help("Hz from which on they are emptied at the lowest; drawn per chunk"))
    balance: float = field(default=0.0, metadata=_help("speaker balancing exponent: 0 = by duration, 1 = uniform"))
    time_masks: int = field(default=0, metadata=_help("SpecAugment: time masks per chunk"))
    time_width: int = field(default=20, metadata=_help("SpecAugment: longest time mask, in frames"))
    precision: str = field(default="float32", metadata=_help("arithmetic: float32, bfloat16, or auto (bfloat16 if the device has it)"))
    # Not in the record: a student trained on a GPU is up to date on a machine without one. student.json names the device.
    device: str = field(default="auto", metadata=_help(DEVICE_HELP, key=False))
    accumulate: int = field(default=1, metadata=_help("split each batch into N parts, to save memory"))
    checkpoint_every: int = field(default=100, metadata=_help("updates between two checkpoints", key=False))
    eval_epochs: float = field(default=1.0, metadata=_help("epochs between two evaluations on dev; the best average is kept"))
    max_dropped: float = field(default=0.1, metadata=_help("largest share of training utterances without an alignment or posteriors"))

    def __post_init__(self) -> None:
        if self.chunk < 0:
            raise UsageError(f"chunk {self.chunk}: a number of frames, or 0 for whole utterances")
        check_device(self.device)
        KINDS.check(self.kind)
        for name in ("epochs", "batch", "lr", "eval_epochs", "checkpoint_every", "hidden", "accumulate", "minutes"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise UsageError(f"{name} {value}: it must be above 0")
        if self.init and self.init_encoder:
            raise UsageError(f"init {self.init} and init_encoder {self.init_encoder}: the one takes the encoder, too; give one of them")
        for name in ("average", "warmup", "head_dropout", "warp"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UsageError(f"{name} {getattr(self, name)}: from 0 to below 1")
        if not 0.0 <= self.band_limit <= 1.0 or not self.band_lowest > 0:
            raise UsageError(f"band_limit {self.band_limit}, band_lowest {self.band_lowest}: a share from 0 to 1, a frequency above 0")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name} {getattr(self, name)}: known are {', '.join(known)}")
        self.head_specs()

    def head_specs(self) -> "list[HeadSpec]":
        """The auxiliary heads; UsageError on an unknown or missing field, or two heads of one name."""
        specs = [HeadSpec.make(entry) for entry in self.heads]
        names = [s.name for s in specs]
        if len(set(names)) != len(names):
            raise UsageError(f"heads {', '.join(names)}: two heads of one unit, kind and target on the same layer")
        return specs

    def main_spec(self) -> "HeadSpec":
        """The main head's loss, as an entry of a head over senones."""
        return HeadSpec("senone", -1, 1.0, self.main, self.main_options, self.hidden, posts=self.main_posts)

    def needs_posts(self) -> set[str]:
        """Names (or units) for which a dump must be given (hard heads take their labels from the same segments)."""
        # A loss other than the default loads torch to say what it needs.
        with_teacher = self.main != "ce" and MAIN_OBJECTIVES[self.main].uses_posteriors
        return {s.teacher for s in self.head_specs()} | ({self.main_posts or "senone"} if with_teacher else set())


@dataclass(frozen=True)
class Posts:
    """A teacher's dump as given to training. ``name``: what heads call it; ``named``: whether the user gave that name."""

    name: str
    folder: Path
    named: bool = False

    @classmethod
    def of(cls, text: str) -> "Posts":
        """From [NAME=]FOLDER. Without a name it is called after its teacher: exp/teacher_phone/post_train is teacher_phone."""
        name, sign, folder = text.partition("=")
        if sign and POSTS_NAME.fullmatch(name):
            return cls(name, Path(folder), True)
        from kdtool.posteriors.dump import dump_name

        return cls(dump_name(Path(text)), Path(text))


def parse_posts(text: str) -> "list[Posts]":
    """The dumps of the option posts; UsageError when two have the same name."""
    posts = [Posts.of(part) for part in text.split(",") if part]
    names = [p.name for p in posts if p.named]
    if doubled := sorted({n for n in names if names.count(n) > 1}):
        folders = ", ".join(str(p.folder) for p in posts if p.name == doubled[0])
        raise UsageError(f"--posts: {folders} are all called {doubled[0]}; give them different names: --posts A=DIR,B=DIR")
    return posts


@dataclass(frozen=True)
class HeadSpec:
    """One auxiliary head: its target, its layer, its weight and its loss.

    ``layer``: index of the encoder's layer, 0 is the lowest, -1 the last.  ``top_k``: use at most the K likeliest units
    of a posterior, the others go to its rest bucket (0: all that the dump kept).  ``stride``: train on every N-th output
    frame (the frames of a unit share its target: half of them cost half).  ``weight``: a number, or a schedule [[share of the
    updates, weight], ..], interpolated linearly.  ``options``: of the loss, such as {temperature: 2}.  ``target``: the unit that a
    frame's target is about: current, next or previous, or an offset in units (negative: before).  ``average``: replaces each
    posterior by its unit's mean, removing context (a control).  ``posts``: name of its dump ([NAME=]FOLDER of --posts; a folder
    without a name is called after its teacher); by default the one over its unit.
    """

    unit: str
    layer: int
    weight: Any
    kind: str = "soft"
    options: dict[str, Any] = field(default_factory=dict)
    hidden: int = 64
    top_k: int = 0
    stride: int = 1
    target: Any = "current"
    average: bool = False
    posts: str = ""

    @classmethod
    def make(cls, entry: Any) -> "HeadSpec":
        """From one mapping of the config's ``heads``; UsageError names what is wrong with it."""
        known = {f.name for f in dataclasses.fields(cls)}
        if not isinstance(entry, dict) or not {"unit", "layer", "weight"} <= set(entry) or not set(entry) <= known:
            raise UsageError(f"head {entry}: a mapping with unit, layer and weight is expected; known are {', '.join(sorted(known))}")
        spec = cls(**entry)
        if spec.unit not in UNITS:
            raise UsageError(f"head {entry}: unit '{spec.unit}', known are {', '.join(UNITS)}")
        if spec.hidden < 1 or spec.stride < 1 or spec.top_k < 0:
            raise UsageError(f"head {entry}: top_k must not be negative, hidden and stride at least 1")
        if not isinstance(spec.options, dict):
            raise UsageError(f"head {entry}: options {spec.options!r} are no mapping of the objective's options")
        if not (spec.target in TARGETS if isinstance(spec.target, str) else type(spec.target) is int):
            raise UsageError(f"head {entry}: target {spec.target!r} is neither {', '.join(TARGETS)} nor a whole number of units")
        if type(spec.average) is not bool:
            raise UsageError(f"head {entry}: average {spec.average!r} is neither true nor false")
        if not isinstance(spec.posts, str) or not (spec.posts == "" or POSTS_NAME.fullmatch(spec.posts)):
            raise UsageError(f"head {entry}: posts {spec.posts!r}: the name of a dump, letters, digits, '_', '.', '+' and '-'")
        check_weight(spec.weight, f"head {entry}")
        return spec

    @property
    def teacher(self) -> str:
        """The name of its dump, or its unit when any dump over the unit will do."""
        return self.posts or self.unit

    @property
    def offset(self) -> int:
        """Offset in units from a frame's unit to its target's."""
        return TARGETS[self.target] if isinstance(self.target, str) else int(self.target)

    @property
    def name(self) -> str:
        """Name in progress lines and checkpoints."""
        other = next((f"_{name}" for name, offset in TARGETS.items() if offset == self.offset), f"_{self.offset:+d}")
        name = f"{self.unit}_{self.kind}_{self.layer}{'' if self.offset == 0 else other}".replace("-", "m").replace("+", "p")
        return name + (f"_{re.sub('[^A-Za-z0-9]', '_', self.posts)}" if self.posts else "")

    def weight_at(self, share: float) -> float:
        """The weight after ``share`` (0 to 1) of the updates."""
        if not isinstance(self.weight, list):
            return float(self.weight)
        import numpy as np

        return float(np.interp(share, *zip(*self.weight, strict=True)))


def check_weight(weight: Any, where: str) -> None:
    """UsageError unless it is a number of at least 0, or points [share, weight] with ascending shares from 0 to 1."""
    points = weight if isinstance(weight, list) and weight else [[0.0, weight]]
    fits = all(isinstance(p, list) and len(p) == 2 and all(isinstance(x, (int, float)) and x >= 0 for x in p) for p in points)
    if not fits or any(a[0] >= b[0] for a, b in itertools.pairwise(points)) or points[-1][0] > 1:
        raise UsageError(f"{where}: weight {weight!r} is neither a number of at least 0 nor points [share, weight], the shares rising "
                         "from 0 to 1")  # fmt: skip
