#!/bin/sh
# Builds, deploys and tries functions on the CPU: ./deploy_cpu.sh --help
exec sh "$(dirname "$(readlink -f "$0")")/deploy/start.sh" cpu "$@"
