"""The loop of a training: AdamW, a learning rate that rises and falls again, and the running average of the weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np

_WARM_UP = 80  # steps
_SAY_EVERY = 100  # steps
_AVERAGED = 150  # steps whose weights the running average is made of, about


def fit(
    network: Any,
    steps: int,
    rate: float,
    loss_of_step: Callable[[int], Any],
    say: Callable[[str], None] = print,
    *,
    weight_decay: float = 1e-4,
    longest_gradient: float = 1.0,
) -> Any:
    """Trains a network and returns the running average of its weights, which is better than the last ones.

    Args:
        network: A torch module in training mode; all its weights are changed.
        steps: How many times the weights are changed.
        rate: The highest learning rate.
        loss_of_step: Called with 0, 1, ...: the loss of the network on the next batch, a tensor of one number.
        say: Called with each line of progress.
        weight_decay: Of the weights of layers; biases and norms have none.
        longest_gradient: The norm to which a larger gradient is scaled down.

    Returns:
        A network of the same kind, in inference mode, whose weights take no gradients.
    """
    import torch

    average = deepcopy(network)
    changed = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weight_groups(network, weight_decay), lr=rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_share(step, steps))
    begin, recent = time.process_time(), []
    for step in range(1, steps + 1):
        loss = loss_of_step(step - 1)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(changed, longest_gradient)
        optimizer.step()
        schedule.step()
        follow(average, network, 1 - 1 / min(step + 1, _AVERAGED))
        recent.append(float(loss.detach()))
        if step % _SAY_EVERY == 0:
            say(
                f"step {step}/{steps}, loss {np.mean(recent):.3f}, {time.process_time() - begin:.0f} s of computing time"
            )
            recent = []
    return average.eval().requires_grad_(False)


def weight_groups(network: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: weight decay for the weights of layers, none for biases and norms.

    Args:
        network: A torch module.
        weight_decay: Of the weights of layers.
    """
    changed = [weight for weight in network.parameters() if weight.requires_grad]
    layers, others = ([w for w in changed if (w.ndim > 1) == of_layer] for of_layer in (True, False))
    return [{"params": layers, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def rate_share(step: int, steps: int) -> float:
    """The learning rate's share at a step: a short rise, then half a cosine down to a hundredth.

    Args:
        step: From 0.
        steps: How many there will be.

    Returns:
        0.01 to 1.
    """
    if step < _WARM_UP:
        return (step + 1) / _WARM_UP
    return 0.01 + 0.99 * (1 + math.cos(math.pi * (step - _WARM_UP) / max(steps - _WARM_UP, 1))) / 2


def follow(average: Any, network: Any, keep: float) -> None:
    """Moves an averaged network towards the trained one.

    Args:
        average: The average, a torch module; changed in place.
        network: The network that is trained, of the same kind.
        keep: How much of the average stays, 0 to 1.
    """
    for target, source in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if target.dtype.is_floating_point:
            target.lerp_(source.detach(), 1 - keep)
        else:
            target.copy_(source)
