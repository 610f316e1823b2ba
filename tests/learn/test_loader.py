"""Threads and processes read the same batches, and a reading that was killed goes on."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.errors import StoreError
from tasks.learn.checkpoint import read_tensors
from tasks.learn.dataset import StoreCases
from tasks.learn.loader import Loader
from tasks.learn.samples import Samples
from tests.learn import read_batches, small_fold
from tests.learn.read_batches import BATCH, EPOCH, STEPS, digest

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    place = tmp_path_factory.mktemp("store")
    read_batches.make_store(place)
    return place


@pytest.fixture(scope="module")
def expected(root):
    return [digest(batch) for batch in read_batches.samples(root).batches(EPOCH, BATCH)]


@pytest.fixture(scope="module")
def processes(root):
    with Loader(read_batches.samples(root), readers=2, processes=True) as loader:
        yield loader


def _start(*words, cwd=CHECKOUT):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.learn.read_batches", *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_the_store_tells_batches_apart(expected):
    assert len(set(expected)) == STEPS


@pytest.mark.parametrize("readers", [0, 1, 3])
def test_threads_read_the_batches_of_a_single_reader(root, expected, readers):
    with Loader(read_batches.samples(root), readers=readers) as loader:
        assert [digest(batch) for batch in loader.batches(EPOCH, BATCH)] == expected


def test_processes_read_the_batches_of_a_single_reader_epoch_after_epoch(root, expected, processes):
    samples = read_batches.samples(root)
    for epoch in (0, EPOCH):
        alone = [digest(batch) for batch in samples.batches(epoch, BATCH)]
        assert [digest(batch) for batch in processes.batches(epoch, BATCH)] == alone


def test_processes_go_on_from_any_step_also_after_an_epoch_left_half_read(expected, processes):
    left = processes.batches(EPOCH, BATCH)
    assert digest(next(left)) == expected[0]
    later = [digest(batch) for batch in processes.batches(EPOCH, BATCH, first=7)]
    assert later == expected[7:]


def test_processes_leave_torch_s_random_numbers_alone(processes):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    list(processes.batches(0, BATCH, first=STEPS - 1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_cases_in_memory_are_never_copied_into_processes():
    source, cases = small_fold.ball_cases(3, (20, 24, 18))
    ids = [case.case_id for case in cases]
    before = multiprocessing.active_children()
    with Loader(Samples(read_batches.plan(), source, ids, {}, 0), processes=True) as loader:
        assert len(list(loader.batches(0, BATCH))) == STEPS
        assert multiprocessing.active_children() == before


def test_cases_of_a_store_pickle_as_their_places(root):
    stored = StoreCases(str(root), read_batches.read_cases(root))
    case_id = read_batches.read_cases(root)[0].case_id
    image = stored.image(case_id)
    pickled = pickle.dumps(stored)
    assert len(pickled) < image.nbytes / 4
    np.testing.assert_array_equal(pickle.loads(pickled).image(case_id), image)


def test_a_killed_process_ends_the_reading_with_a_remedy(root):
    before = set(multiprocessing.active_children())
    with Loader(read_batches.samples(root), readers=1, processes=True) as loader:
        batches = loader.batches(EPOCH, BATCH)
        next(batches)
        (child,) = set(multiprocessing.active_children()) - before
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="train again with fewer"):
            list(batches)


@pytest.mark.parametrize("by_processes", [False, True], ids=["threads", "processes"])
def test_damage_is_the_store_s_own_sentence_whoever_reads(tmp_path, by_processes):
    case = read_batches.make_store(tmp_path)[0]
    samples = read_batches.samples(tmp_path)
    for name in (tmp_path / case.part_path).rglob("c/0/0/0"):
        name.write_bytes(name.read_bytes()[:-100] + bytes(100))
    with (
        Loader(samples, readers=1, processes=by_processes) as loader,
        pytest.raises(StoreError, match=r"^case \w+ is damaged: [^/\n]*; run radloop verify$"),
    ):
        list(loader.batches(EPOCH, BATCH))


@pytest.mark.parametrize("how", ["threads", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_reading_killed_in_the_middle_of_an_epoch_goes_on_in_another_process(root, expected, how):
    first = _start("read", root, 2, how, 0, 60)
    assert first.stdout.readline().strip() == expected[0]
    first.kill()
    assert first.wait() == -signal.SIGKILL
    first.stdout.close()
    second = _start("read", root, 1, how, 5, 0)
    later, _ = second.communicate()
    assert second.returncode == 0
    assert later.split() == expected[5:]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["threads", "processes"])
def test_a_training_from_the_store_killed_mid_epoch_ends_with_the_same_bytes(root, tmp_path, how):
    whole = _start("train", root, tmp_path / "whole", "threads")
    whole.communicate()
    assert whole.returncode == 0
    killed = _start("train", root, tmp_path / "killed", how)
    epochs = 0
    for line in killed.stdout:
        epochs += line.strip() == "1"
        if epochs == STEPS // 2:  # the middle of the second epoch
            break
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    killed.stdout.close()
    again = _start("train", root, tmp_path / "killed", how)
    steps, _ = again.communicate()
    assert again.returncode == 0
    assert steps.split() == ["1"] * STEPS + ["2"] * STEPS
    a, b = (read_tensors(tmp_path / name / "fold.safetensors")[0] for name in ("whole", "killed"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
