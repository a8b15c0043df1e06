"""The PyTorch adapter: focal losses as PyTorch's users write them, (input, target), always from logits.

    sigmoid_focal_loss, softmax_focal_loss      functions; the first is called as torchvision's
    SigmoidFocalLoss, SoftmaxFocalLoss          the same as modules
    global_divisor, global_loss                 for a batch that lies on several processes; the modules take group=
    trainer_loss                                one of the modules as a Hugging Face Trainer's `compute_loss_func`
    parfocal.torch.metrics                      torchmetrics; imported, and needing that package, only when asked for

What "mean" divides by.  Sigmoid: the number of elements, weighted or not, as binary_cross_entropy_with_logits.
Softmax: as cross_entropy, the number of samples, or with `weight` and class indices the sum of weight[target]; ignored
ones leave it.  "mean_over_positives" is RetinaNet's, and `normalizer` takes any other number.  Where there is nothing
to average the loss is 0; PyTorch's own losses are NaN there.

What alpha is by default.  Sigmoid: 0.25, torchvision's and the paper's; None, or anything below 0, turns it off.
Softmax: None, off.

Tensors in the processor's memory go to the native kernel.  On other devices, and under torch.compile, torch.export and
torch.func, torch operations run the formula, without a graph break, and nothing waits for a device.  An invalid label
makes its loss NaN there, and is an error here.  Half precision is computed in float32.

Second derivatives come from torch.autograd, torch.func.hessian, or jvp of grad.  torch.func.jacfwd of jacfwd is 0 for
every autograd.Function of PyTorch 2.13, so for ours too.
"""

from parfocal.torch.distributed import global_divisor, global_loss
from parfocal.torch.functional import sigmoid_focal_loss, softmax_focal_loss
from parfocal.torch.losses import SigmoidFocalLoss, SoftmaxFocalLoss
from parfocal.torch.trainer import trainer_loss

__all__ = [
    "SigmoidFocalLoss",
    "SoftmaxFocalLoss",
    "global_divisor",
    "global_loss",
    "sigmoid_focal_loss",
    "softmax_focal_loss",
    "trainer_loss",
]
