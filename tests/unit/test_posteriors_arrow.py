"""Arrow export: the table equals the dump, row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import student_data

from kdtool.__main__ import main
from kdtool.posteriors.dump import PosteriorDump


def test_arrow_table(tmp_path: Path) -> None:
    _, ali = student_data.write_set(tmp_path)
    dump = PosteriorDump.open(student_data.write_dump(tmp_path / "phone", ali, "phone"))
    assert main(["posteriors", "export", str(tmp_path / "phone"), str(tmp_path / "out"), "--format", "arrow"]) == 0
    with pa.memory_map(str(tmp_path / "out" / "posteriors.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    rows = table.to_pylist()
    assert len(rows) == dump.meta["units"] and table.schema.metadata[b"unit"] == b"phone"
    for name in dump.ids:
        post, mine = dump.get(name), [r for r in rows if r["utterance"] == name]
        assert [(r["unit"], r["start"], r["length"]) for r in mine] == list(zip(post.unit_ids, post.start, post.length, strict=True))
        np.testing.assert_array_equal([r["rest_logp"] for r in mine], post.rest_logp)
        for n, row in enumerate(mine):
            kept = slice(post.offsets[n], post.offsets[n + 1])
            np.testing.assert_array_equal(row["ids"], post.ids[kept])
            np.testing.assert_array_equal(np.array(row["logp"], np.float32), post.logp[kept])
