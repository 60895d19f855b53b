"""The files of a run, from which it is resumed, loaded and replayed."""
