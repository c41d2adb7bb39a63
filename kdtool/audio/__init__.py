"""The one reader of audio files: what they are, how long they are, their samples. Only `kdtool.core` lies below it."""
