"""The command `bp-torch train`, from a clone of the repository."""

from bp_torch.commands.train import main

if __name__ == "__main__":
    main()
