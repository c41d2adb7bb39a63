"""Pages that need no network: HTML, charts, pictures of sound."""
