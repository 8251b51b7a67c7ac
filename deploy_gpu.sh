#!/bin/sh
# Builds, deploys and tries functions on a GPU: ./deploy_gpu.sh --help
exec sh "$(dirname "$(readlink -f "$0")")/deploy/start.sh" gpu "$@"
