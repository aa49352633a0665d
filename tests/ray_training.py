"""Training within Ray Train, by two workers of this machine: ray_training.py DIRECTORY."""

import sys
from pathlib import Path

import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer


def work(options: dict[str, str]) -> None:
    """Train, as one of the workers."""
    import torch

    sys.path.insert(0, options["tests"])  # a worker finds neither this file nor those beside it
    from test_training import NETWORK, RECIPE, halves

    from depthwise.training import train

    torch.set_num_threads(1)
    train(NETWORK, halves(), RECIPE, directory=Path(options["directory"]) / "run")


def main(directory: str) -> None:
    """Start two workers on this machine, and wait for them."""
    ray.init(num_cpus=2, include_dashboard=False)
    TorchTrainer(
        work,
        train_loop_config={"directory": directory, "tests": str(Path(__file__).parent)},
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(storage_path=str(Path(directory) / "ray")),
    ).fit()


if __name__ == "__main__":
    main(sys.argv[1])
