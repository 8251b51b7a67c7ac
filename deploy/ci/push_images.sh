#!/usr/bin/env bash
# Pushes the images of the functions that are deployed here: push_images.sh REGISTRY TAG, as REGISTRY/IMAGE:TAG and :latest.
set -euo pipefail

registry=${1,,} # a registry takes lower case only, an organisation on GitHub may have capitals
tag=$2
pushed=0
while IFS= read -r image; do
  name=${image%%:*}
  for target in "$registry/$name:$tag" "$registry/$name:latest"; do
    docker tag "$image" "$target"
    docker push --quiet "$target"
  done
  pushed=$((pushed + 1))
done < <(docker ps --filter label=nuclio.io/project-name=cvat --format '{{.Image}}' | sort -u)

if [ "$pushed" = 0 ]; then
  echo "no function is deployed: nothing to push" >&2
  exit 1
fi
echo "$pushed images pushed to $registry"
