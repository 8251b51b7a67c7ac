#!/usr/bin/env bash
# Builds, deploys and tries functions on a GPU: ./deploy_gpu.sh --help
exec bash "$(dirname "${BASH_SOURCE[0]}")/deploy/run.sh" gpu "$@"
