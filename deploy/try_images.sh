#!/usr/bin/env bash
# Tries the images without Nuclio: builds the base images, serves functions from them in a container as a non-root user, and
# compares the replies with those of the same functions on this host. By hand, where there is a Docker daemon and the
# environment of `make serve`; the tests have neither.
#
#   deploy/try_images.sh [--debootstrap] [functions...]     default: onnx/rapidocr/text onnx/yolo/shapes
#
# --debootstrap: where python:3.11-slim can't be pulled, a Debian with Python 3.11 stands in for it, made by debootstrap (as
# root) with this machine's certificates. PYTHON names the host's Python (default: .venv/bin/python).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
python=${PYTHON:-.venv/bin/python}
image=python:3.11-slim
engine=onnxruntime # `auto` may take another engine in each place, and their results differ in the last digits
folder=$(mktemp -d)
container='' server=''
finish() {
  [ -z "$container" ] || docker rm --force "$container" >/dev/null
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$folder"
}
trap finish EXIT

if [ "${1:-}" = --debootstrap ]; then
  shift
  image="python-stand-in:3.11"
  if ! docker image inspect "$image" >/dev/null 2>&1; then
    echo "Making a Debian with Python 3.11 ..."
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip bookworm "$folder/debian" >"$folder/debootstrap.log"
    cp /etc/ssl/certs/ca-certificates.crt "$folder/debian/etc/ssl/certs/ca-certificates.crt"
    ln -s python3 "$folder/debian/usr/bin/python"
    rm -rf "$folder"/debian/usr/lib/python3.11/EXTERNALLY-MANAGED "$folder"/debian/var/cache/apt/archives/*.deb "$folder"/debian/var/lib/apt/lists/*
    tar -C "$folder/debian" -c . | docker import --change 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt' - "$image" >/dev/null
    rm -rf "$folder/debian"
  fi
fi
functions=("$@")
[ $# -gt 0 ] || functions=(onnx/rapidocr/text onnx/yolo/shapes)

# The base images, as the deployment builds them.
printf '%s\n' "${functions[@]}" | cut -d / -f 1 | sort -u | while IFS= read -r framework; do
  echo "Building cvat.$framework.base ..."
  tar -C "$root" --exclude=__pycache__ -c common -C "serverless/$framework" base -C "$root/deploy" Dockerfile base_packages.py |
    docker build --network host -q -t "cvat.$framework.base" --build-arg "PYTHON_IMAGE=$image" - >/dev/null
done
docker images --format '  {{.Repository}}: {{.Size}}' | grep -E "$(printf '%s\n' "${functions[@]}" | sed -E 's#^([^/]*)/.*#cvat.\1.base:#' | sort -u | paste -sd '|')"

for function in "${functions[@]}"; do
  name=${function//\//-}
  echo "$name"
  directory=serverless/$function
  # The function's own layer: its code and packages; then the local server, which Nuclio stands in for.
  {
    echo "FROM cvat.${function%%/*}.base"
    echo "COPY function /opt/nuclio"
    [ ! -f "$directory/requirements.txt" ] || echo "RUN python -m pip install --no-deps -r /opt/nuclio/requirements.txt"
    echo "RUN chmod -R a+rX /opt/nuclio"
  } >"$folder/Dockerfile"
  rm -rf "$folder/function" && cp -RL "$directory" "$folder/function"
  docker build --network host -q -t "try-$name" "$folder" >/dev/null
  rm -rf "$folder/tools" "$folder/serverless"
  tar --exclude=__pycache__ -c tools serverless/collection.py | tar -x -C "$folder"
  printf 'FROM try-%s\nCOPY tools /srv/tools\nCOPY serverless /srv/serverless\nRUN python -m pip install --no-deps -r /srv/tools/requirements.txt\nWORKDIR /srv\n' "$name" >"$folder/Dockerfile"
  docker build --network host -q -t "try-$name-served" "$folder" >/dev/null

  container=$(docker run --detach --user 1000:1000 --read-only --tmpfs /tmp --publish 127.0.0.1::8070 "try-$name-served" \
    python -m tools.serve --host 0.0.0.0 --port 8070 --workers 1 --env "ENGINE=$engine" /opt/nuclio)
  "$python" -m tools.serve --port 18070 --workers 1 --env "ENGINE=$engine" "$directory" >"$folder/server.log" 2>&1 &
  server=$!
  ports=(18070 "$(docker port "$container" 8070/tcp | head -n 1 | sed 's/.*://')")
  kind=$(sed -n 's/^    type: *//p' "$directory/function.yaml" | head -n 1)
  sample=deploy/samples/$kind.json
  [ -f "$sample" ] || sample=deploy/samples/$kind-rectangle.json
  for i in 0 1; do
    place=$([ "$i" = 0 ] && echo here || echo there)
    for ((second = 0; second < 90; second++)); do
      if curl -fsS -m 60 -o "$folder/$place.json" -w '%{time_total}' -H "x-nuclio-function-name: $name" -H 'x-nuclio-path: /' \
        -H 'Content-Type: application/json' --data-binary "@$sample" "http://127.0.0.1:${ports[i]}/api/function_invocations" >"$folder/$place.time" 2>"$folder/$place.error"; then break; fi
      sleep 1
    done
    [ -s "$folder/$place.json" ] || { echo "  no answer $place: $(<"$folder/$place.error")" >&2; docker logs --tail 20 "$container" >&2; exit 1; }
  done
  echo "  user in the container: $(docker exec "$container" id)"
  echo "  image: $(docker image inspect -f '{{.Size}}' "try-$name" | awk '{ printf "%.0f MB", $1 / 1e6 }'); reply: $(wc -c <"$folder/there.json") bytes"
  if cmp -s "$folder/here.json" "$folder/there.json"; then
    echo "  the replies are the same, byte for byte"
  else
    echo "  the replies DIFFER: $(head -c 300 "$folder/here.json") / $(head -c 300 "$folder/there.json")" >&2
    exit 1
  fi
  docker rm --force "$container" >/dev/null
  kill "$server"
  wait "$server" 2>/dev/null || true
  container='' server=''
done
echo "All is the same in the images as on this host."
