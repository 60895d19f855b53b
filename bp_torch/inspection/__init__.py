"""Inspection of gradients: the nudges of one example, the gradients of each of many, and the noise of their mean."""

from bp_torch.inspection.explanation import *
from bp_torch.inspection.per_example import *
from bp_torch.inspection.sensitivity import *
