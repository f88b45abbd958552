"""The Lightning example runs: each epoch draws other windows to train on, and the same to validate."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install ndvol[torch]")

from ndvol.demo import CATEGORIES, make_toy  # noqa: E402
from ndvol.formats.writing import write_nifti  # noqa: E402
from ndvol.geometry import Grid  # noqa: E402
from ndvol.importing import ImportOptions, import_tree  # noqa: E402

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "lightning_datamodule.py"


@pytest.mark.filterwarnings("default")
def test_the_example_trains(tmp_path):
    # Here, because its import takes seconds, which every worker of the suite would spend.
    lightning = pytest.importorskip("lightning", reason="lightning is not installed: pip install lightning")
    grid = Grid.regular("zyx", (20, 40, 44), spacing=(3, 1.5, 1.5))
    for k in range(2):
        toy = make_toy(grid.shape, seed=k)
        write_nifti(tmp_path / "raw" / "images" / f"toy-{k}.nii.gz", toy.image, grid)
        write_nifti(tmp_path / "raw" / "labels" / f"toy-{k}.nii.gz", toy.labels, grid)
    import_tree(tmp_path / "raw", tmp_path / "bundle", options=ImportOptions(categories=CATEGORIES))
    spec = spec_from_file_location("lightning_datamodule", EXAMPLE)
    example = sys.modules["lightning_datamodule"] = module_from_spec(spec)
    spec.loader.exec_module(example)
    bundle, seen, validated = str(tmp_path / "bundle"), {}, []

    class Watched(example.Segmenter):
        def training_step(self, batch, step):
            seen.setdefault(self.current_epoch, []).append(batch["image"].clone())
            return super().training_step(batch, step)

        def validation_step(self, batch, step):
            validated.extend(batch["index"].tolist())
            return super().validation_step(batch, step)

    data = example.PatchModule(bundle, bundle, (8, 16, 16), "lesion", workers=1)
    trainer = lightning.Trainer(
        max_epochs=2,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(Watched(categories=6), data)
    assert {epoch: len(batches) for epoch, batches in seen.items()} == {0: 16, 1: 16}
    assert not torch.equal(seen[0][0], seen[1][0])
    # What arrived in the training step are the samples themselves.
    for epoch, batches in seen.items():
        data.train.set_epoch(epoch)
        assert torch.equal(torch.cat(batches), torch.stack([data.train[i]["image"] for i in range(64)]))
    assert validated == [*range(16)] * 2
    assert torch.isfinite(trainer.callback_metrics["val_loss"])
