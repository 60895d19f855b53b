"""TensorBoard: the recorder, and the Backprop tab.

Nothing is imported here, because TensorBoard imports this package to load the tab and should not wait for torch. The
recorder is `bp_torch.dashboard.writer.TensorBoardLogger`.
"""
