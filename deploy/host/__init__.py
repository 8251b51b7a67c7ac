"""The machine that functions are deployed on: Docker, its disk, networks and ports, nuctl, GPUs, what pip can reach."""
