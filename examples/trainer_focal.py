"""A focal loss in a Hugging Face Trainer: find the few tokens that matter in sequences of unequal length.

A token of the last tenth of the vocabulary counts if the token before it is even.  The model is a tiny BERT with random
weights; nothing is downloaded.  Needs: pip install "torch==2.13.0" transformers accelerate
"""

import tempfile

import torch
from transformers import BertConfig, BertForTokenClassification, Trainer, TrainingArguments, set_seed

from parfocal.torch import SoftmaxFocalLoss, trainer_loss

WORDS, LENGTH, PADDING = 50, 24, -100
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}  # and two labels


def sequences(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    words = torch.randint(1, WORDS, (count, LENGTH), generator=draw)
    there = torch.arange(LENGTH) < torch.randint(4, LENGTH + 1, (count, 1), generator=draw)
    labels = (words >= 0.9 * WORDS) & (words.roll(1, dims=1) % 2 == 0)
    labels = labels.long().masked_fill(~there, PADDING)
    names = ("input_ids", "attention_mask", "labels")
    return [dict(zip(names, row, strict=True)) for row in zip(words, there.long(), labels, strict=True)]


def trained(loss: SoftmaxFocalLoss, steps: int) -> BertForTokenClassification:
    set_seed(0)
    model = BertForTokenClassification(BertConfig(vocab_size=WORDS, max_position_embeddings=LENGTH, **SIZES))
    with tempfile.TemporaryDirectory() as folder:
        options = {"use_cpu": True, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
        arguments = TrainingArguments(
            folder, max_steps=steps, per_device_train_batch_size=32, gradient_accumulation_steps=2, learning_rate=5e-3,
            logging_strategy="no", **options,
        )  # fmt: skip
        # The Trainer calls it with num_items_in_batch, the number of labels other than -100 in both batches that it
        # accumulates, and that divides the sum of the losses: a mean of two means would not be the mean.
        compute_loss = trainer_loss(loss)
        Trainer(model, arguments, train_dataset=sequences(4000, seed=1), compute_loss_func=compute_loss).train()
    return model.eval()


def report(steps: int = 300) -> None:
    rows = sequences(2000, seed=2)
    words, there, labels = (torch.stack([row[name] for row in rows]) for name in rows[0])
    truth = labels[labels != PADDING]
    print(f"{len(truth)} tokens, {truth.float().mean():.1%} of them count")
    for gamma in (0.0, 2.0):
        loss = SoftmaxFocalLoss(gamma=gamma, ignore_index=PADDING)
        logits = trained(loss, steps)(words, there).logits[labels != PADDING].detach()
        recall = [f"{(logits.argmax(-1) == k)[truth == k].float().mean():.3f}" for k in (0, 1)]
        for name, p in {"score": logits.softmax(-1)[:, 1], "posterior": loss.posterior(logits)[:, 1]}.items():
            brier = (p - truth).square().mean()
            print(f"gamma {gamma}: recall {' '.join(recall)}; mean {name} {p.mean():.4f}, Brier score {brier:.5f}")


if __name__ == "__main__":
    report()
