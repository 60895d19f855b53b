"""Data sets: MNIST through torchvision, and drawn digits, which need neither a network nor files."""

from bp_torch.data.dataset import *
from bp_torch.data.mnist import *
