"""What a run keeps on disk, so that it can be resumed, loaded and replayed."""
