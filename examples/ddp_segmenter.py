"""A small segmenter on two processes, one of which sees no object for a while; half a minute on two cores.

    torchrun --standalone --nproc-per-node 2 examples/ddp_segmenter.py [--steps 120]

It trains with `group=`, and prints how far the averaged gradient is from that of one process with all images: with this
loss, and with the same loss without `group=`, which divides by the positives of its own process.
"""

import argparse
import copy

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from parfocal.torch import SigmoidFocalLoss

local = SigmoidFocalLoss(reduction="mean_over_positives")  # what people write; it warns once
shared = SigmoidFocalLoss(reduction="mean_over_positives", group=None)  # the default group


def images(step: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Four noisy images and the masks of their bright squares; the second process has none in the first 60 steps."""
    random = torch.Generator().manual_seed(1000 * step + rank)
    masks = torch.zeros(4, 1, 32, 32)
    for mask in masks[: 0 if rank == 1 and step < 60 else 4 - 3 * rank]:
        top, left = torch.randint(0, 24, (2,), generator=random).tolist()
        mask[:, top : top + 7 - 4 * rank, left : left + 5] = 1
    return masks + 0.7 * torch.randn(masks.shape, generator=random), masks


def gradient(model: torch.nn.Module, loss: SigmoidFocalLoss, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss(model(x), y).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


dist.init_process_group("gloo")
torch.set_num_threads(1)
torch.manual_seed(0)
rank, world, conv = dist.get_rank(), dist.get_world_size(), torch.nn.Conv2d
net = torch.nn.Sequential(conv(1, 8, 5, padding=2), torch.nn.ReLU(), conv(8, 1, 5, padding=2))
torch.nn.init.constant_(net[-1].bias, shared.optimal_logit(0.01))
model, optimizer = DistributedDataParallel(net), torch.optim.Adam(net.parameters(), lr=5e-3)
arguments = argparse.ArgumentParser()
arguments.add_argument("--steps", type=int, default=120)
for step in range(arguments.parse_args().steps):
    x, y = images(step, rank)
    if step % 20 == 0:
        parts = [images(step, other) for other in range(world)]
        exact = gradient(copy.deepcopy(net), local.eval(), *map(torch.cat, zip(*parts, strict=True)))
        wrong, right = ((gradient(model, loss, x, y) - exact).norm() / exact.norm() for loss in (local.train(), shared))
        if rank == 0:
            positives = " + ".join(f"{int(part[1].sum())}" for part in parts)
            print(f"step {step:3d}, positives {positives}: error without group= {wrong:.2f}, with it {right:.0e}")
    gradient(model, shared, x, y)
    optimizer.step()
dist.destroy_process_group()
