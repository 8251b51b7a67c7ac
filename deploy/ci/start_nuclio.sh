#!/usr/bin/env bash
# Nuclio's dashboard and nuctl on a machine that has Docker and nothing else, as for a CVAT: network cvat_cvat, port 8070 of
# this machine only. start_nuclio.sh [VERSION]; nuctl goes to ~/.local/bin, or where NUCTL_DIR says.
set -euo pipefail

version=${1:-1.15.9}
folder=${NUCTL_DIR:-$HOME/.local/bin}
case $(uname -m) in aarch64 | arm64) architecture=arm64 ;; *) architecture=amd64 ;; esac

mkdir -p "$folder"
curl -fsSL --retry 3 -o "$folder/nuctl" \
  "https://github.com/nuclio/nuclio/releases/download/$version/nuctl-$version-linux-$architecture"
chmod +x "$folder/nuctl"
# The steps of a workflow that follow find it, too.
[ -z "${GITHUB_PATH:-}" ] || echo "$folder" >>"$GITHUB_PATH"

docker network inspect cvat_cvat >/dev/null 2>&1 || docker network create cvat_cvat
docker run --detach --name nuclio --network cvat_cvat --publish 127.0.0.1:8070:8070 \
  --volume /var/run/docker.sock:/var/run/docker.sock \
  --env NUCLIO_DASHBOARD_DEFAULT_FUNCTION_MOUNT_MODE=volume \
  "quay.io/nuclio/dashboard:$version-$architecture"

for ((second = 0; second < 60; second++)); do
  if curl -fsS -m 2 -o /dev/null http://127.0.0.1:8070/api/versions 2>/dev/null; then
    echo "Nuclio $version answers after $second s"
    exit 0
  fi
  sleep 1
done
docker logs --tail 50 nuclio >&2
echo "Nuclio's dashboard does not answer" >&2
exit 1
