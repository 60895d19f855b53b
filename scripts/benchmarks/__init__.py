"""Speed and memory, measured side by side in one process: what `scripts/benchmark.py` prints and keeps."""
