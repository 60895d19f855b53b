"""Bugs and correct functions as the field has them: fixed arguments, random numbers, complex numbers, composition."""

from planted.field import arguments, calls, values
from planted.field.correct import CORRECT

BUGS = (*arguments.BUGS, *calls.BUGS, *values.BUGS)

__all__ = ["BUGS", "CORRECT"]
