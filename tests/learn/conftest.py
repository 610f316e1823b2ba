"""What tests of trainings share."""

import pytest


@pytest.fixture
def one_thread():
    """Torch with one thread: the same bits are promised for the same number of threads only."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
