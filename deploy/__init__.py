"""Deploys functions into Nuclio: `deploy_cpu.sh` and `deploy_gpu.sh` run this package.

Needs Docker, nuctl and Python 3.9 or newer with its standard library; PyYAML is fetched where it is missing (`packages`).

`options` reads the command line, `preflight` looks for what must be there, `functions` finds the functions, `images` builds
their base images, `ports` gives each a port, `function` builds, starts and tries one, and brings the old version back when
the new one fails. `nuclio` asks nuctl, `containers` Docker. `bundle` packs all of it for a machine without a network.
"""
