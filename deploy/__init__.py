"""Deploys functions into Nuclio: `deploy_cpu.sh` and `deploy_gpu.sh` run this package.

Needs Docker, nuctl and Python 3.9 or newer with its standard library; PyYAML is fetched where it is missing (`host.packages`).

`options` reads the command line and `run` does what it says, in order: `preflight` looks for what must be there, `images`
builds the base images, `ports` gives each function a port, and `function` builds, starts and tries one, and brings the old
version back when the new one fails: with `verify`, which sends a sample, and `cause`, which reads the logs of a failure.
`nuclio` asks and tells nuctl, `kubernetes` has what is different in a cluster, `packing` and `bundle` are for a machine
without a network.

`definition` is what a function is and what it is deployed with, `host` the machine and what it has.
"""
