"""Align any folder of audio and text.  In: audio with its text, a GMM folder, its lang folder.  Out: a folder.

The folder: textgrid/ and json/ (one file per audio file), words.ctm, phones.ctm, recordings, supervisions and cuts for Lhotse,
files.tsv (confidence, log-likelihood and fit per file), word_scores.tsv (the same per word, and the phones recognised there), words.tsv
(words missing from all lexicons), dropped.tsv (name and reason of each file that could not be aligned; tabs, newlines and bytes that
are not UTF-8 are written as \\t, \\n, \\xe9), report.html (pictures and sound of the files with the worst fit), and, where a name cannot
serve as an output's name, renamed.tsv (output name, name in the folder).
Confidence says how certain the boundaries are, given the text; it is high for a wrong text, too. Fit says whether the text is right,
from 1 (perfect) to 0. It compares the aligned phones with a free phone loop, over each word and over the worst stretch of the
file, and each pair of neighbouring words with the same pair exchanged. A fit below 0.5 looks wrong: such files and words are counted on
the terminal, and the worst five files are named with what was recognised instead. llr_per_frame: log-likelihood of the text minus that
of the loop, nats per frame.
Exit status 1 when more than --max-failed of the files could not be aligned; the others are written all the same.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from kdtool.aligner.config import Config
from kdtool.core.cli import cli_main, parse_args
from kdtool.core.errors import KdError, UsageError
from kdtool.core.inputs import door
from kdtool.core.step import run_step

NAMED = 5  # files named in the summary
MOST_WORDS = 12  # words of a stretch that are printed

def find_lang(cfg: Config, model: Path) -> Path:
    """The lang folder; whether it fits the model is checked later. Raises UsageError: no model folder, or no lang folder at the
    expected places."""
    if not model.is_dir():
        raise UsageError(f"--model {model}: no such folder; give the GMM folder of a finished recipe, such as WORK/exp/sat")
    places = [cfg.lang] if cfg.lang else [model / "lang", model.absolute().parents[1] / "data" / "lang"]
    for place in places:
        if (place / "phones.txt").is_file():
            return place
    raise UsageError(f"no lang folder at {' or '.join(map(str, places))}; give the one {model} was trained with by --lang")


def align_folder(audio: Path, model: Path, lang_dir: Path, work: Path, cfg: Config, nj: int) -> None:
    """Run all parts; results go into `work`."""
    from kdtool.aligner.prepare import prepare
    from kdtool.aligner.report import choose, write_report
    from kdtool.aligner.times import to_aligned
    from kdtool.aligner.write import write_all
    from kdtool.audio.reader import read
    from kdtool.core.dropped import account, rows_of
    from kdtool.core.jobs import run_array
    from kdtool.core.tables import read_jsonl
    from kdtool.features.store import FeatureSet
    from kdtool.gmm.folder import check_fits, open_gmm
    from kdtool.lang.lang import Lang

    lang = Lang.load(lang_dir)
    gmm = open_gmm(model)
    temporary = work / "temporary"
    temporary.mkdir()
    utterances, dropped = prepare(audio, lang, work, temporary, cfg, gmm.front.kind, nj)
    features = FeatureSet.open(temporary / "feats")
    check_fits(model, gmm, lang, features)
    nj = min(nj, len(features.by_speaker(features.ids)))
    argv = [str(temporary), str(lang_dir), str(model), "--scale", repr(cfg.posterior_scale), "--min-silence", repr(cfg.min_silence)]
    argv += ["--refine"] * cfg.refine
    run_array("kdtool.aligner.job", argv, nj=nj, log_dir=work / "log", name="align")
    files = []
    for row in (r for job in range(1, nj + 1) for r in read_jsonl(temporary / f"part.{job}.jsonl")):
        one = utterances[row["id"]]
        if "failed" in row:
            dropped.append((one.item.called, row["failed"]))
            continue
        words = [(w.written, w.key) for w in one.words]
        try:
            files.append(to_aligned(row, one.item.name, str(one.item.audio), one.staged.seconds, words, lang.plain_names))
        except KdError as e:
            dropped.append((one.item.called, str(e)))
    files.sort(key=lambda a: a.name)
    if files:
        write_all(work, files, utterances.values(), states=cfg.states)
        paths = {u.item.name: u.staged.path for u in utterances.values()}
        shown = choose(files, cfg.report, cfg.report_files)
        write_report(work / "report.html", files, shown, rows_of(dropped), lambda name: read(paths[name]))
    shutil.rmtree(temporary)
    # Failures decide the exit status only after everything is written, so that the rest can be used.
    account(len(files) + len(dropped), len(files), dropped, max_share=1.0, where="align", work=work)


def align_and_tidy(audio: Path, model: Path, lang_dir: Path, work: Path, cfg: Config, nj: int) -> None:
    """`align_folder`; on an error its copies of the audio are removed, so that they do not fill the disk."""
    try:
        align_folder(audio, model, lang_dir, work, cfg, nj)
    except OSError:
        shutil.rmtree(work / "temporary", ignore_errors=True)
        raise


def report_failures(out: Path, max_failed: float) -> None:
    """Print how many files and words look wrong and name the worst; from the tables, so also when the output was up to date. Raises
    KdError: more than the allowed share of the files failed."""
    from kdtool.aligner.times import LOOKS_WRONG
    from kdtool.core.tables import read_lines

    head, *lines = [line.split("\t") for line in read_lines(out / "files.tsv")]
    rows = [dict(zip(head, line, strict=True)) for line in lines]
    wrong = sorted((r for r in rows if float(r["fit"]) < LOOKS_WRONG), key=lambda r: (float(r["fit"]), float(r["llr_per_frame"])))
    words, all_words = (sum(int(r[name]) for r in rows) for name in ("doubtful_words", "words"))
    print(f"align: {len(wrong)} of {len(rows)} files and {words} of {all_words} words look wrong (fit below {LOOKS_WRONG:g})"
          + "; the worst:" * bool(wrong), file=sys.stderr)  # fmt: skip
    for row in wrong[:NAMED]:
        text = repr(_short(row["worst_words"])) if row["worst_words"] else "no word"
        print(f"  {row['file']}: fit {row['fit']}; {row['worst_start']} to {row['worst_end']} s, {text}: heard {_short(row['heard'])}",
              file=sys.stderr)  # fmt: skip
    if len(wrong) > max(NAMED, len(rows) / 2):
        print("  most files look wrong: was the model trained on this language and this kind of audio?", file=sys.stderr)
    failed = [line.split("\t", 1) for line in read_lines(out / "dropped.tsv")]
    total = len(failed) + len(rows)
    if len(failed) > max_failed * total:
        first = "".join(f"\n  {name}: {reason}" for name, reason in failed[:5])
        raise KdError(
            f"{len(failed)} of {total} files could not be aligned; {out}/dropped.tsv names all, the others are done:{first}\n"
            "fix or remove them, or allow some by --max-failed"
        )


def _short(text: str) -> str:
    """The first and the last words of a long text."""
    words = text.split()
    half = MOST_WORDS // 2
    return text if len(words) <= MOST_WORDS else " ".join([*words[:half], "..", *words[-half:]])


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    from kdtool.aligner.items import is_kaldi, kaldi_audio

    paths, cfg, common = parse_args(
        Config, [("audio", "folder with audio and its text")], argv, prog="kdtool align", description=__doc__ or ""
    )
    if not cfg.model or not cfg.out:
        raise UsageError("kdtool align AUDIO --model EXP --out DIR: the model and the output folder are needed; --help lists the options")
    if not 0 < cfg.posterior_scale <= 1 or not 0 <= cfg.max_failed <= 1:
        raise UsageError("--posterior-scale: above 0, at most 1; --max-failed: a share from 0 to 1")
    audio, model, out = paths["audio"], cfg.model, cfg.out
    if audio.resolve() in (out.resolve(), *out.resolve().parents):
        raise UsageError(f"--out {out} lies inside {audio}, whose content decides what is done; choose another place")
    lang = find_lang(cfg, model)
    inputs = {"audio": audio, "model": model, "lang": lang, **({"lexicon": cfg.lexicon} if cfg.lexicon else {})}
    if cfg.layout in ("auto", "kaldi") and is_kaldi(audio):
        inputs.update(kaldi_audio(audio))
    run_step(
        "align", out=out, inputs=inputs, options=cfg, code=("kdtool.aligner.align",), common=common,
        body=lambda work: align_and_tidy(audio, model, lang, work, cfg, common.nj),
        doors=[door("model", model, lang=lang), door("lang", lang)],
    )  # fmt: skip
    if not common.dry_run:
        report_failures(out, cfg.max_failed)


if __name__ == "__main__":
    cli_main(main)
