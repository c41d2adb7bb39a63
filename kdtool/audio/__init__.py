"""The only reader of audio files: formats, lengths, samples. Imports only `kdtool.core`."""
