"""Train with PyTorch Lightning: a LightningDataModule over a bundle.

    python docs/examples/lightning_datamodule.py bundle/

Needs ``pip install "ndvol[torch]" lightning``. Ndvol's samples are a function of seed, epoch and index, so Lightning
needs no seeding of workers; its Trainer shares them among ranks by its own distributed sampler.
"""

from __future__ import annotations

import sys

import lightning
import torch
from torch.utils.data import DataLoader

import ndvol


class PatchModule(lightning.LightningDataModule):
    """Positive and negative windows of labelled cases: others in each epoch to train on, always the same to validate.

    Parameters
    ----------
    train, validate : bundles.
    window : voxels per axis, storage order.
    category : what positives hold.
    """

    def __init__(self, train: str, validate: str, window: tuple[int, ...], category: str, *, workers: int = 2) -> None:
        super().__init__()
        self.paths, self.window, self.category, self.workers = (train, validate), window, category, workers

    def setup(self, stage: str) -> None:
        drawn = ndvol.Mix({ndvol.Positive(self.category): 1, ndvol.Negative(self.category): 1})
        train, validate = (
            ndvol.VolumeSampler(ndvol.open(path), self.window, strategy=drawn, seed=seed, length=length)
            for path, seed, length in zip(self.paths, (0, 1), (64, 16), strict=True)
        )
        # The epoch of the second is never set, so validation always sees the same windows.
        self.train, self.validate = ndvol.torch.PatchDataset(train), ndvol.torch.PatchDataset(validate)

    def train_dataloader(self) -> DataLoader:
        # Lightning asks again in each epoch (reload_dataloaders_every_n_epochs=1), so each draws other windows.
        self.train.set_epoch(self.trainer.current_epoch)
        return DataLoader(self.train, batch_size=4, num_workers=self.workers, collate_fn=ndvol.torch.collate)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.validate, batch_size=4, num_workers=self.workers, collate_fn=ndvol.torch.collate)


class Segmenter(lightning.LightningModule):
    """A network of two layers, in place of yours."""

    def __init__(self, categories: int) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(8, categories, 3, padding=1)
        )

    def training_step(self, batch: dict, _: int) -> torch.Tensor:
        loss = self._loss(batch)
        self.log("loss", loss, batch_size=len(batch["image"]))
        return loss

    def validation_step(self, batch: dict, _: int) -> None:
        self.log("val_loss", self._loss(batch), batch_size=len(batch["image"]), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-2)

    def _loss(self, batch: dict) -> torch.Tensor:
        scores = self.net(batch["image"] / 1000)
        return torch.nn.functional.cross_entropy(scores, batch["label"][:, 0])


if __name__ == "__main__":
    data = PatchModule(sys.argv[1], sys.argv[1], (16, 32, 32), "lesion")
    trainer = lightning.Trainer(max_epochs=2, reload_dataloaders_every_n_epochs=1, log_every_n_steps=4)
    trainer.fit(Segmenter(categories=6), data)
