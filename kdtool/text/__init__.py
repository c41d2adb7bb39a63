"""Text as people write it -> text to work with: characters, marks that are no words, files that are no plain text, unknown words."""
