"""Allowed sources of audio.  In: one source of a Lhotse recording.  Out: what is wrong with it, '' for nothing.

Lhotse also runs commands (type 'command' goes to a shell), fetches URLs, and reads some formats through a shell line
that holds the file's name. Manifests are foreign input, so only plain files are allowed; the feature step reads them by libsndfile.
"""

from __future__ import annotations

from typing import Any


def source_fault(source: Any) -> str:
    """'' for a plain file, else what is wrong."""
    if not isinstance(source, dict) or not isinstance(source.get("source"), str) or not source.get("source"):
        return "no audio file is named"
    if source.get("type") != "file":
        return f"type {source.get('type')!r} ({source['source'][:60]!r}), only 'file' is read; commands are not run, nothing is fetched"
    if "\0" in source["source"]:
        return f"{source['source']!r} is no file name"
    return ""
