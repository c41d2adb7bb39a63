"""Teachers' posteriors on disk: written once per unit of an alignment, truncated, self-describing and checked."""
