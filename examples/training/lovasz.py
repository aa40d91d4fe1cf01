"""The Lovasz-Softmax loss: a smooth surrogate of 1 - IoU, so that rare classes count as the score counts them."""

import torch


def lovasz_softmax(logits: torch.Tensor, labels: torch.Tensor, ignore: int) -> torch.Tensor:
    """Return the mean over the classes that occur; 0 if none does.

    logits  (n, C, h, w);  labels (n, h, w), `ignore` where there is none
    Source:  Berman, Triki, Blaschko 2018, with the pixels of a batch taken as one image.
    """
    known = labels != ignore
    # Pixels without a label have no error and come last, where they change nothing: no shape depends on the labels,
    # so a GPU need not wait for them.
    p = (logits.float().softmax(1) * known[:, None]).movedim(1, 0).flatten(1)  # (C, pixels)
    truth = ((labels == torch.arange(len(p), device=labels.device).view(-1, 1, 1, 1)) & known).float().flatten(1)
    present = (truth.sum(1) > 0).float()
    errors, order = (truth - p).abs().sort(dim=1, descending=True)
    truth = truth.gather(1, order)
    hit_left = truth.sum(1, keepdim=True) - truth.cumsum(1)
    jaccard = 1 - hit_left / (truth.sum(1, keepdim=True) + (1 - truth).cumsum(1)).clamp(min=1)
    steps = torch.diff(jaccard, dim=1, prepend=jaccard.new_zeros(len(jaccard), 1))
    return ((errors * steps).sum(1) * present).sum() / present.sum().clamp(min=1)
