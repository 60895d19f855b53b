"""The command `bp-torch experiments`, from a clone."""

from bp_torch.commands import run

if __name__ == "__main__":
    run("bp_torch.commands.experiments")
