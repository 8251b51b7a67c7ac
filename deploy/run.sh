#!/usr/bin/env bash
# What deploy_cpu.sh and deploy_gpu.sh do: `deploy/run.sh cpu|gpu [options] [function directories...]`; see --help.
set -uo pipefail

if [ -z "${BASH_VERSINFO:-}" ] || [ "${BASH_VERSINFO[0]}${BASH_VERSINFO[1]}" -lt 43 ]; then
  echo "bash 4.3 or newer is needed, this is ${BASH_VERSION:-another shell}; on macOS: brew install bash" >&2
  exit 2
fi

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
DEVICE=$1
SCRIPT=deploy_$DEVICE.sh
shift

# shellcheck source=deploy/say.sh
. "$ROOT/deploy/say.sh"
# shellcheck source=deploy/options.sh
. "$ROOT/deploy/options.sh"
# shellcheck source=deploy/yaml.sh
. "$ROOT/deploy/yaml.sh"
# shellcheck source=deploy/functions.sh
. "$ROOT/deploy/functions.sh"
# shellcheck source=deploy/preflight.sh
. "$ROOT/deploy/preflight.sh"
# shellcheck source=deploy/images.sh
. "$ROOT/deploy/images.sh"
# shellcheck source=deploy/ports.sh
. "$ROOT/deploy/ports.sh"
# shellcheck source=deploy/weights.sh
. "$ROOT/deploy/weights.sh"
# shellcheck source=deploy/verify.sh
. "$ROOT/deploy/verify.sh"
# shellcheck source=deploy/cause.sh
. "$ROOT/deploy/cause.sh"
# shellcheck source=deploy/function.sh
. "$ROOT/deploy/function.sh"
# shellcheck source=deploy/bundle.sh
. "$ROOT/deploy/bundle.sh"

parse_options "$@"

SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/cvat-deploy.XXXXXX") || die "no temporary folder could be made" "set TMPDIR to one"
trap 'rm -rf "$SCRATCH"' EXIT
# A handler runs with the redirections of the command that it interrupts: what it says goes past them.
exec 9>&2
trap '{ echo; STATUS=130 die "interrupted; nothing is deployed yet"; } 2>&9' INT TERM
LOGS=${DEPLOY_LOGS:-$ROOT/out/deploy}
mkdir -p "$LOGS" 2>/dev/null || LOGS=$SCRATCH

case $ACTION in
  list)
    find_docker_and_nuctl quiet
    list_functions
    exit
    ;;
  remove)
    find_docker_and_nuctl quiet
    find_functions
    remove_functions
    exit
    ;;
esac

[ -z "$BUNDLE" ] || open_bundle
find_functions
preflight
[ -z "$BUNDLE" ] || load_bundle_images
make_project
[ -n "$BUNDLE$NO_BUILD" ] || build_base_images
if [ "$ACTION" = bundle ]; then
  make_bundle
  exit
fi
assign_ports
deploy_all
summary
