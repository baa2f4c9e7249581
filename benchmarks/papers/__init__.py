"""One paper a file: declarations and published numbers, no loops."""
