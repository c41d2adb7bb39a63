"""Corpora: checks of audio and transcripts, Lhotse manifests.  Knows no corpus by name (those are in local/)."""
