"""The program that measures GPUs, on the CPU: its path, its limits and what it says without one."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.gpu_check import (
    SMALL,
    Load,
    cuda_devices,
    examine,
    fold_a_device,
    kill_and_resume,
    main,
    short_of_memory,
    train,
)
from flows.gpu_page import AGREEMENT, RESUME, Figures, judge, page

ROOT = Path(__file__).resolve().parents[2]
TINY = Load(size=32, cases=32, epochs=2, batch=8, features=(4, 8))
GOOD = Figures(
    device="cuda:0",
    name="Pretended 1",
    seconds=12.34,
    seconds_without_amp=20.0,
    data_wait=0.051,
    busy=93.0,
    memory_gb=4.2,
    batches=(64, 32),
    resumed=2,
    resume_difference=0.001,
    difference=0.002,
)
PLACED = [("0", "Pretended 1")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU: run make gpu-check")
def test_without_a_gpu_nothing_is_claimed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "gpu.md"
    kept.write_text("as it was")
    assert main(["--page", str(kept)]) == 0
    assert "no CUDA device" in capsys.readouterr().out
    assert kept.read_text() == "as it was"
    assert cuda_devices() == []


def test_the_committed_page_says_what_is_measured() -> None:
    text = (ROOT / "docs" / "gpu.md").read_text()
    assert "make gpu-check" in text
    taken = "Taken 20" in text
    assert taken or "not measured" in text


def test_a_killed_training_goes_on_exactly(tmp_path: Path) -> None:
    # The child trains on as many threads as we do: on the CPU other numbers of threads round apart.
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", before)))
    try:
        killed = kill_and_resume(tmp_path / "killed", "cpu")
        whole = train(tmp_path / "whole", "cpu")
    finally:
        torch.set_num_threads(before)
    assert 1 <= killed.resumed < SMALL.epochs
    assert (killed.val_probability == whole.val_probability).all()


@pytest.mark.slow
def test_a_device_is_examined_by_the_path_that_trains(tmp_path: Path) -> None:
    found = examine(tmp_path, "cpu", TINY)
    assert found.seconds > 0
    assert found.seconds_without_amp > 0
    assert 0 <= found.data_wait < 1
    assert found.difference == 0
    assert found.resume_difference <= RESUME
    # What only a GPU can show is not made up.
    assert (found.busy, found.memory_gb, found.batches) == (None, None, None)
    text = page([found], [("", found.name)], judge([found], [("", found.name)]))
    assert "| most memory (GB) | not measured |" in text
    assert "lack of memory was not answered" in text


def test_a_batch_is_halved_when_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.learn.training import Training

    step = Training._step

    def small_memory(self: Training, batch: Any, *how: Any) -> Any:
        if len(batch.image) > 4:
            raise torch.OutOfMemoryError("pretended: no room for more than 4")
        return step(self, batch, *how)

    monkeypatch.setattr(Training, "_step", small_memory)
    assert train(tmp_path / "short", "cpu", TINY).batch == 4
    assert short_of_memory(tmp_path, "cpu", None, TINY) is None


def _where(folder: str) -> tuple[str, str]:
    """Hold a pretended device for a while (runs on the worker)."""
    import time

    time.sleep(1)
    return os.environ["CUDA_VISIBLE_DEVICES"], "Pretended"


@pytest.mark.slow
def test_four_devices_get_a_fold_each(tmp_path: Path) -> None:
    placed = fold_a_device(tmp_path, ["0", "1", "2", "3"], _where)
    assert sorted(device for device, _ in placed) == ["0", "1", "2", "3"]


def test_figures_within_their_limits_are_written_with_them() -> None:
    assert judge([GOOD], PLACED) == []
    text = page([GOOD], PLACED, [])
    for shown in ("Pretended 1", "12.3", "5.1%", "| 93 |", "64, 32", "Everything within its limit"):
        assert shown in text
    assert f"limit {AGREEMENT}" in text
    assert f"torch {torch.__version__.split('+')[0]}" in text


@pytest.mark.parametrize(
    ("off", "sentence"),
    [
        ({"difference": 0.5}, "GPU and CPU differ by 0.5"),
        ({"difference": None}, "differ by not measured"),
        ({"resume_difference": 0.3}, "after a kill 0.3 off"),
        ({"resumed": 0}, "began anew"),
        ({"batches": None}, "not answered by a smaller batch"),
    ],
)
def test_what_is_out_of_its_limit_is_said(off: dict[str, Any], sentence: str) -> None:
    from dataclasses import replace

    problems = judge([replace(GOOD, **off)], PLACED)
    assert len(problems) == 1
    assert sentence in problems[0]
    assert sentence in page([replace(GOOD, **off)], PLACED, problems)


def test_folds_that_shared_a_device_are_told() -> None:
    two = [GOOD, GOOD]
    assert "2 folds ran on 1 devices" in judge(two, [*PLACED, *PLACED])
