"""Lightning: a loss with `group=`, on any number of processes as on one.

    python examples/ddp_lightning.py [--devices 2]

The printed losses do not depend on the number of processes.  Without `group=` they do.
"""

import argparse
import warnings

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

from parfocal.torch import SigmoidFocalLoss


def rows() -> TensorDataset:
    """256 rows; the first half has nearly all positives."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(256, 8, generator=random, dtype=torch.float64)
    rare = (x[:, 0] + x[:, 1] > 2) & (torch.arange(256) % 32 < 16)
    return TensorDataset(x, rare.double())


class Model(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(8, 1, dtype=torch.float64)
        self.loss = SigmoidFocalLoss(reduction="mean_over_positives", group=None)  # None: the default group

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        x, labels = batch
        loss = self.loss(self.layer(x).squeeze(1), labels)
        self.log(
            "loss", loss, sync_dist=True, on_step=False, on_epoch=True
        )  # the mean over processes is the loss of all
        return loss

    def on_train_epoch_end(self) -> None:
        if self.trainer.is_global_zero:
            print(f"epoch {self.current_epoch}: weight {self.layer.weight[0, 0].item():.10f}")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--devices", type=int, default=2)
    devices = arguments.parse_args().devices
    warnings.simplefilter("ignore")  # Lightning's own: few workers, few rows
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(accelerator="cpu", devices=devices, strategy="ddp", max_epochs=3, **quiet)
    trainer.fit(Model(), DataLoader(rows(), batch_size=32 // devices))
    if trainer.is_global_zero:
        print(f"loss {trainer.callback_metrics['loss']:.10f}")
