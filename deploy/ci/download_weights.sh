#!/usr/bin/env bash
# Puts the weights attached to a release where functions look for them: download_weights.sh TAG
#
# An asset is called weights-<name of the function>.tar.gz and holds what goes into the folder weights/ of the function:
# a folder for each variant. `tar -C serverless/onnx/yolo/detect/weights -czf weights-onnx-yolo-detect.tar.gz .` makes one.
set -euo pipefail

tag=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
# shellcheck source=deploy/yaml.sh
. "$root/deploy/yaml.sh"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

count=$(gh release view "$tag" --json assets --jq '[.assets[].name | select(startswith("weights-"))] | length')
if [ "$count" = 0 ]; then
  echo "no weights are attached to $tag: the functions fetch theirs"
  exit 0
fi
gh release download "$tag" --pattern 'weights-*.tar.gz' --dir "$folder"

for archive in "$folder"/weights-*.tar.gz; do
  name=$(basename "$archive" .tar.gz)
  name=${name#weights-}
  directory=''
  while IFS= read -r file; do
    if [ "$(yaml_value "$(yaml_fields "$file")" metadata.name)" = "$name" ]; then directory=$(dirname "$file"); fi
  done < <(find "$root/serverless" -name function.yaml)
  if [ -z "$directory" ]; then
    echo "$(basename "$archive"): there is no function $name" >&2
    exit 1
  fi
  mkdir -p "$directory/weights"
  tar -C "$directory/weights" --no-same-owner -xzf "$archive"
  # Where digests were recorded when they were fetched first, they must still hold.
  while IFS= read -r record; do
    (cd "$(dirname "$record")" && sha256sum --check --quiet "$(basename "$record")")
  done < <(find "$directory/weights" -name weights.sha256)
  echo "$name: $(du -sh "$directory/weights" | cut -f 1)"
done
