"""The card of a prior is written from what training recorded."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from ddip_ray.prior.network import NetworkConfig
from ddip_ray.prior.training.train import TrainingConfig, train_prior
from ddip_ray.tasks.prior_card import draw_loss, read_card, training_commands, write_card

TINY = TrainingConfig(size=16, steps=2, batch=2, seed=5, network=NetworkConfig(channels=(8, 32)))


def test_card(tmp_path: Path) -> None:
    directory = tmp_path / "tiny"
    train_prior(directory, TINY)
    write_card(directory)
    text = (directory / "README.md").read_text()
    assert "random ellipses" in text
    assert "--size 16 --steps 2 --batch 2" in text
    assert "--channels 8,32" in text
    assert str(read_card(directory)["digest"]) in text
    for name in ("samples.png", "loss.png"):
        picture = np.asarray(Image.open(directory / name).convert("L"))
        assert picture.std() > 1
    assert training_commands(read_card(directory))[0].startswith("ddip-ray prior train tiny ")


def test_loss_curve() -> None:
    picture = Image.open(io.BytesIO(draw_loss([1.0, 0.1, 0.01], steps=30)))
    assert picture.width > picture.height
