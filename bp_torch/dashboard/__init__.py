"""What TensorBoard shows of a run.

Nothing is imported here: TensorBoard loads its plugins from below this package, and must not wait for torch. The
recorder is `bp_torch.dashboard.writer.TensorBoardRecorder`.
"""
