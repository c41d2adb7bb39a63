"""Text cleaning: characters, marks that are no words, files that are no plain text."""
