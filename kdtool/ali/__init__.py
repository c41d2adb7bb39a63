"""Alignments: which senone, phone and word each frame belongs to."""
