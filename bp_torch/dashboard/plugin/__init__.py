"""The Backprop tab: TensorBoard's own process imports this, so nothing here may import torch, or fail.

`loader.py` is what TensorBoard finds by its entry point, `static/` the page.
"""
