"""What a gradient means: the nudges of one example, the gradients of many, and how much of their mean is noise."""

from bp_torch.inspection.explanation import *
from bp_torch.inspection.per_example import *
from bp_torch.inspection.sensitivity import *
