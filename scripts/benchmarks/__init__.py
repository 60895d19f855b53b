"""Benchmarks of speed and memory, run by `scripts/benchmark.py`."""
