"""One job of a frame dump.  In: the step's work folder with log/job.json.  Out: this job's shards and their index rows."""

from __future__ import annotations

from kdtool.core.cli import cli_main, parse_args
from kdtool.core.tables import read_json
from kdtool.framewise.teachers import Plan, frame_rows
from kdtool.posteriors.job import Config, write_shards


def main(argv: list[str] | None = None) -> None:
    """Command line of one job; not called by hand."""
    paths, cfg, _ = parse_args(Config, [("work", "folder to write to")], argv, prog="python -m kdtool.framewise.job",
                               description=__doc__ or "")  # fmt: skip
    import torch

    torch.set_num_threads(1)
    write_shards(frame_rows(Plan(**read_json(paths["work"] / "log" / "job.json"))), cfg, paths["work"])


if __name__ == "__main__":
    cli_main(main)
