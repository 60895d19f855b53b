"""The command `bp-torch train`, from a clone."""

from bp_torch.commands import run_module

if __name__ == "__main__":
    run_module("bp_torch.commands.train")
