"""The command `bp-torch explain`, from a clone of the repository."""

from bp_torch.commands.explain import main

if __name__ == "__main__":
    main()
