"""The command `bp-torch experiments`, from a clone of the repository."""

from bp_torch.commands.experiments import main

if __name__ == "__main__":
    main()
