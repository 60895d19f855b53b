import pytest
import torch

from bp_torch.data import Dataset, Split
from bp_torch.data.digits import draw


@pytest.fixture(scope="session")
def small_digits() -> Dataset:
    """A thousand drawn digits to learn from and two hundred to be tested on."""
    train, test = torch.arange(1000) % 10, torch.arange(200) % 10
    return Dataset("digits", Split(draw(train, seed=1), train), Split(draw(test, seed=2), test), "a thousand digits")
