"""Bugs in bfloat16 and float16 alone, and correct kernels for these dtypes.

The value of a bug is correct in every dtype, and its gradient in float64 and float32.
"""

from planted.low_precision import rounding, scaling
from planted.low_precision.kernels import CORRECT

BUGS = (*rounding.BUGS, *scaling.BUGS)

__all__ = ["BUGS", "CORRECT"]
