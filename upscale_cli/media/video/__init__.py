"""Videos: frames out of a container and into another, everything beside the frames carried over, part by part."""
