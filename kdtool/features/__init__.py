"""Features: data/<set> (Lhotse manifests) -> data/<set>/<kind> (MFCC or fbank, cuts, per-speaker statistics)."""
