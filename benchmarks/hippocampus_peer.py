"""nnU-Net v2 on the hippocampus, run by bench_hippocampus.py in the peers' environment.

    hippocampus_peer.py prepare WORK DATA MEMORY          raw data set, fingerprint, plan, arrays
    hippocampus_peer.py train WORK FOLD SEED SECONDS OUT  one fold; OUT gets the masks and a record

Knows nothing of radloop.  nnU-Net trains as it stands, with its own planner, augmentation, loss,
optimizer, schedule and mirrored inference.  Changed is what a core budget asks for: how many
epochs fit (measured first; the schedule ends with the last), an epoch of 25 and 5 batches instead
of 250 and 50, and samples made in the main process, so that every core second is counted.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

DATASET, CONFIGURATION = "Dataset004_Hippocampus", "3d_fullres"
BATCHES, TRIED = 25, 4
"""Of an epoch; and those a batch's cost is measured on."""


def places(work: Path) -> None:
    """Tell nnU-Net where its folders are; before it is imported."""
    for name in ("raw", "preprocessed", "results"):
        place = work / name
        place.mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(place)
    os.environ |= {"nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}


def prepare(work: Path, data: Path, memory: float) -> None:
    """Make the raw data set, and plan for so many GB with nnU-Net's planner."""
    raw = work / "raw" / DATASET
    for kind, ending in (("imagesTr", "_0000"), ("labelsTr", "")):
        (raw / kind).mkdir(parents=True, exist_ok=True)
        for file in sorted((data / kind).glob("*.nii.gz")):
            name = file.name.removesuffix(".nii.gz")
            shutil.copyfile(file, raw / kind / f"{name}{ending}.nii.gz")
    said = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "numTraining": len(list((raw / "imagesTr").iterdir())),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(said))
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    api.extract_fingerprints([4], num_processes=1, check_dataset_integrity=True)
    api.plan_experiments([4], gpu_memory_target_in_gb=memory)
    api.preprocess([4], configurations=(CONFIGURATION,), num_processes=(1,))


def train(work: Path, fold: int, seed: int, seconds: float, out: Path) -> None:
    """Train for so many core seconds and write what was trained, cost and the folder of masks."""
    os.environ |= {"nnUNet_n_proc_DA": "0"}
    import numpy as np
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    np.random.seed(seed)
    torch.manual_seed(seed)
    trainer = get_trainer_from_args(DATASET, CONFIGURATION, fold, device=torch.device("cpu"))
    trainer.output_folder = str(out)
    out.mkdir(parents=True, exist_ok=True)
    trainer.log_file = str(out / "training.log")
    trainer.disable_checkpointing = True
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = BATCHES, BATCHES // 5
    trainer.initialize()
    trainer.on_train_start()
    trainer.network.train()
    for n in range(TRIED + 1):
        if n == 1:  # the first batch also builds what later ones find built
            begun = time.process_time()
        trainer.train_step(next(trainer.dataloader_train))
    step = (time.process_time() - begun) / TRIED
    # A batch of validation goes forward only: a third of one that learns.
    epochs = max(1, int(seconds / (step * (BATCHES + BATCHES / 5 / 3))))
    trainer.was_initialized = False
    torch.manual_seed(seed)
    trainer.num_epochs = epochs
    trainer.initialize()
    begun, wall = time.process_time(), time.perf_counter()
    trainer.run_training()
    record = {
        "core_seconds": time.process_time() - begun,
        "wall_seconds": time.perf_counter() - wall,
        "batches": epochs * BATCHES,
        "batch": trainer.batch_size,
        "patch": list(trainer.configuration_manager.patch_size),
    }
    trainer.perform_actual_validation(False)
    (out / "record.json").write_text(json.dumps(record))


if __name__ == "__main__":
    what, folder, *rest = sys.argv[1:]
    places(Path(folder))
    if what == "prepare":
        prepare(Path(folder), Path(rest[0]), float(rest[1]))
    else:
        train(Path(folder), int(rest[0]), int(rest[1]), float(rest[2]), Path(rest[3]))
