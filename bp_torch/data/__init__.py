"""Data to learn from: MNIST through torchvision, or drawn digits that need neither a network nor a disk."""

from bp_torch.data.dataset import *
from bp_torch.data.mnist import *
