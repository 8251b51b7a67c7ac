#!/usr/bin/env bash
# Builds, deploys and tries functions on the CPU: ./deploy_cpu.sh --help
exec bash "$(dirname "${BASH_SOURCE[0]}")/deploy/run.sh" cpu "$@"
