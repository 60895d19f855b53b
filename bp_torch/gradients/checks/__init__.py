"""The checks: functions that take a `CheckCase` and yield variants with their outcomes."""
