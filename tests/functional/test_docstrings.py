"""The worked examples in the docstrings of `bp_torch.functional`."""

import doctest
import importlib
import pkgutil

import bp_torch.functional


def test_worked_examples() -> None:
    names = [module.name for module in pkgutil.iter_modules(bp_torch.functional.__path__, "bp_torch.functional.")]
    results = {name: doctest.testmod(importlib.import_module(name)) for name in names}
    assert {name: result for name, result in results.items() if result.failed} == {}
    assert sum(result.attempted for result in results.values()) >= 40
