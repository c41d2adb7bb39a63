"""Decoding and scoring: search of a graph with acoustic scores, candidates, scales tuned on other speakers, intervals."""
