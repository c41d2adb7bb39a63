"""Self-contained pages: HTML, charts, pictures of sound."""
