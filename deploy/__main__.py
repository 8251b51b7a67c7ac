"""`python3 -m deploy cpu|gpu [options] [functions...]`: what deploy_cpu.sh and deploy_gpu.sh run."""

from __future__ import annotations

import sys

from deploy.run import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
