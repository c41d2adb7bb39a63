"""Decoding and scoring: acoustic scores searched through a graph, candidates, scales tuned on other speakers, intervals."""
