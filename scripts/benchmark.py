"""Measure speed and memory of bp_torch and others."""

from bp_torch.commands import run_module

if __name__ == "__main__":
    run_module("benchmarks.command")
