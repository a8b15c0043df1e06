"""Accelerate with gradients that are accumulated: the two lines, in place of `group=`.

    torchrun --standalone --nproc-per-node 2 examples/ddp_accelerate.py

The printed losses do not depend on the number of processes.  Half of the micro-batches have no positive at all.
"""

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

from parfocal.torch import SigmoidFocalLoss, global_divisor, global_loss

ACCUMULATED = 2  # micro-batches in a step


def rows() -> TensorDataset:
    """256 rows; only every other 16 have positives."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(256, 8, generator=random, dtype=torch.float64)
    rare = (x[:, 0] + x[:, 1] > 2) & (torch.arange(256) % 32 < 16)
    return TensorDataset(x, rare.double())


def main() -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATED)
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 1, dtype=torch.float64)
    loader = DataLoader(rows(), batch_size=32 // accelerator.num_processes)
    model, optimizer, loader = accelerator.prepare(layer, torch.optim.SGD(layer.parameters(), lr=0.1), loader)
    loss = SigmoidFocalLoss(reduction="mean_over_positives")
    for epoch in range(3):
        batches = iter(loader)
        for first in batches:
            step = [first, *(next(batches) for _ in range(ACCUMULATED - 1))]
            n = global_divisor(sum(loss.count(labels) for _, labels in step), at_least=loss.at_least)
            total = torch.zeros((), dtype=torch.float64)
            for x, labels in step:
                with accelerator.accumulate(model):
                    logits = model(x).squeeze(1)
                    # `backward` divides by the number of micro-batches; n counts them all already.
                    accelerator.backward(loss(logits, labels, normalizer=n / ACCUMULATED))
                    optimizer.step()
                    optimizer.zero_grad()
                    total += loss.sum_and_count(logits.detach(), labels)[0]
        shown = global_loss(total, sum(loss.count(labels) for _, labels in step), at_least=loss.at_least)
        if accelerator.is_main_process:
            print(f"epoch {epoch}: loss of the last step {shown:.10f}, weight {layer.weight[0, 0].item():.10f}")
    accelerator.end_training()


if __name__ == "__main__":
    main()
