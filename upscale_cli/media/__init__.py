"""Pictures in and out: frames, decoding, encoding, metadata, paths. numpy only, no torch."""
