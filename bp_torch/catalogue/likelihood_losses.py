"""TODO."""

from bp_torch.catalogue.op_info import OpInfo

OP_INFOS: tuple[OpInfo, ...] = ()
