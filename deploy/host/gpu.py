"""Whether Docker can give a container a GPU."""

from __future__ import annotations

import re

from deploy.commands import Commands
from deploy.console import Console

_TIMEOUT_S = 600  # the image may have to be pulled


def check_gpu(image: str, commands: Commands, console: Console) -> None:
    """Starts a container with the GPUs of this machine and reports what it sees.

    Args:
        image: The image to start; any with a shell's usual libraries, as the driver's programs come from the host.
        commands: Runs docker.
        console: Where it is reported.
    """
    words = ("docker", "run", "--rm", "--gpus", "all", "--entrypoint", "nvidia-smi", image, "-L")
    done = commands.ask(*words, timeout_s=_TIMEOUT_S)
    if done.ok:
        names = re.findall(r"^GPU \d+: ([^(]*?) *\(", done.output, re.MULTILINE)
        console.good(f"GPU: {len(names)} ({names[0] if names else done.last_words})")
    elif re.search(r"could not select device driver|unknown runtime|CDI device", done.errors):
        console.bad(
            "Docker can't give containers a GPU: the NVIDIA container toolkit is not set up",
            "install nvidia-container-toolkit (docs.nvidia.com/datacenter/cloud-native), then: "
            "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker",
        )
    elif re.search(r"nvml|driver|nvidia-container-cli", done.errors):
        console.bad(
            f"the NVIDIA driver of this machine does not answer: {done.last_words}",
            "nvidia-smi on this machine shows whether it works; without a GPU: ./deploy_cpu.sh",
        )
    else:
        console.bad(
            f"a container with a GPU does not start: {done.last_words}",
            f"docker run --rm --gpus all {image} nvidia-smi shows more",
        )
