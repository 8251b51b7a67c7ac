"""Deploys the functions to Nuclio: what `deploy_cpu.sh` and `deploy_gpu.sh` run, with Python 3.9 or newer on the host."""
