"""Cross-entropy against focal loss in PyTorch, on a long tail of small images; seconds on one core.

    python examples/digits_torch.py [--data fashion] [--steps 400] [--seeds 6]

The last two lines that it prints say what focal loss changed.
"""

import long_tail
import torch

from parfocal.torch import SoftmaxFocalLoss

cross_entropy = SoftmaxFocalLoss(gamma=0)  # as torch.nn.CrossEntropyLoss
focal = SoftmaxFocalLoss(gamma=2)


def train(loss: SoftmaxFocalLoss, data: long_tail.Data, steps: int, seed: int) -> torch.Tensor:
    """Logits of the test images from a network with one hidden layer, trained with `loss`."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Linear(data.train_x.shape[1], 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 10),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    images, labels = torch.from_numpy(data.train_x), torch.from_numpy(data.train_y)
    for rows in torch.from_numpy(long_tail.batches(data, steps, seed)):
        optimizer.zero_grad()
        loss(model(images[rows]), labels[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        return model(torch.from_numpy(data.test_x))


if __name__ == "__main__":
    torch.set_num_threads(1)  # the network is small: more threads would wait for each other
    long_tail.compare(train, cross_entropy, focal)
