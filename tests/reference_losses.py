"""The losses in PyTorch, from the method's text, and drawn labels and logits to compare them on."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

IGNORE = 255


def draw_labels(seed, shape=(3, 12, 10), classes=5, absent=(3,)):
    """Label maps of blobs: a class absent, pixels ignored, the last image without edges."""
    rng = np.random.default_rng(seed)
    values = [k for k in range(classes) if k not in absent]
    coarse = rng.choice(values, size=(shape[0], shape[1] // 4 + 1, shape[2] // 4 + 1))
    label = coarse.repeat(4, 1).repeat(4, 2)[:, : shape[1], : shape[2]]
    label[rng.random(shape) < 0.1] = IGNORE
    label[-1] = 1
    return label.astype(np.int32)


def draw_logits(seed, shape, scale=2.0):
    return np.random.default_rng(seed).normal(scale=scale, size=shape)


def _flat(logits, label):
    logits = logits.reshape(-1, logits.shape[-1])
    label = torch.as_tensor(np.asarray(label, np.int64)).reshape(-1)
    return logits[label != IGNORE], label[label != IGNORE]


def torch_cross_entropy(logits, label):
    return F.cross_entropy(*_flat(logits, label))


def torch_edge_cross_entropy(logits, label):
    flat_logits, flat_label = _flat(logits, label)
    counts = torch.bincount(flat_label, minlength=logits.shape[-1]).double()
    return F.cross_entropy(flat_logits, flat_label, weight=1 - counts / flat_label.numel())


def torch_edge_attention(logits, label, edge):
    per_image = []
    for image_logits, image_label, image_edge in zip(logits, label, edge, strict=True):
        mask = (image_edge > 0) & (image_label != IGNORE)
        if mask.any():
            target = torch.as_tensor(image_label[mask].astype(np.int64))
            per_image.append(F.cross_entropy(image_logits[torch.as_tensor(mask)], target))
        else:
            per_image.append(torch.zeros((), dtype=logits.dtype))
    return torch.stack(per_image).mean()


def torch_distillation(logits, targets, label):
    valid = torch.as_tensor(np.asarray(label) != IGNORE)
    log_p = F.log_softmax(logits[valid], dim=-1)
    return F.kl_div(log_p, targets[valid], reduction="none").sum(-1).mean()


def torch_lovasz(logits, label):
    """The Lovász extension by its definition: the loss of the k worst pixels, as sets."""
    flat_logits, flat_label = _flat(logits, label)
    probabilities = flat_logits.softmax(-1)
    per_class = []
    for k in flat_label.unique():
        truth = flat_label == k
        errors = torch.where(truth, 1 - probabilities[:, k], probabilities[:, k])
        order = torch.argsort(errors.detach(), descending=True, stable=True)
        wrong = torch.zeros_like(truth)
        value, before = 0.0, 0.0
        for pixel in order:
            wrong[pixel] = True
            # Jaccard loss of mispredicting exactly the set `wrong`.
            jaccard_loss = wrong.sum().item() / (truth | wrong).sum().item()
            value = value + errors[pixel] * (jaccard_loss - before)
            before = jaccard_loss
        per_class.append(value)
    return torch.stack(per_class).mean()


def torch_soft_targets(teacher, label, m):
    hard = np.eye(teacher.shape[-1])[np.where(label == IGNORE, 0, label)]
    return m / (m + 1) * torch.tensor(teacher).softmax(-1) + torch.tensor(hard) / (m + 1)


def assert_same_value_and_gradient(ours, theirs, logits, rtol=1e-9):
    """Compares two scalar functions of the logits and their gradients in double precision."""
    with jax.enable_x64(True):
        value, gradient = jax.jit(jax.value_and_grad(ours))(jnp.asarray(logits, jnp.float64))
        value, gradient = np.asarray(value), np.asarray(gradient)
    assert value.dtype == np.float64
    tensor = torch.tensor(logits, requires_grad=True)
    expected = theirs(tensor)
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=rtol)
    scale = np.abs(tensor.grad.numpy()).max()
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=rtol, atol=rtol * scale)
    assert scale > 0
