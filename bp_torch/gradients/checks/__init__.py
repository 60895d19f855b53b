"""The checks; each is a function from a case to pairs of a variant and what was found there."""
