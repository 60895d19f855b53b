"""The second driver: the same Functions' forward and backward, in a plain loop without autograd."""

from bp_torch.engine.backprop import Backprop
from bp_torch.engine.chain import Chain, Link, Passage, Wish

__all__ = ["Backprop", "Chain", "Link", "Passage", "Wish"]
