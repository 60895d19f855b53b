"""Data sets: MNIST through torchvision, and synthetic digits, which need no files and no internet access."""

from bp_torch.data.dataset import *
from bp_torch.data.mnist import *
