"""LF-MMI: trees with one output per 30 ms, denominator graphs, numerators, and their total scores with k2."""
