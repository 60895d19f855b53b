"""Measure speed and memory of bp_torch and others."""

from bp_torch.commands import run

if __name__ == "__main__":
    run("benchmarks.command")
