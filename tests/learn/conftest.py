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


@pytest.fixture
def trained(tmp_path):
    """A function that fits the folds of the candidate ``it`` as workers do, and the jobs it got."""
    from tasks.learn.crossval import fit_fold, out_of_fold

    jobs = []

    def fit(job):
        jobs.append(job)
        place = job.save(tmp_path)
        return out_of_fold(job, [fit_fold(place, "", "it", fold) for fold in job.folds])

    return fit, jobs
