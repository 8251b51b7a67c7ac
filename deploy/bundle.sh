# shellcheck shell=bash
# A bundle is one tar file with all that a machine without a network needs: the images of functions with their weights, the
# image in which nuctl keeps its records, nuctl itself, and these scripts. `make bundle` makes it, `--offline` uses it.
#
#   manifest         a line for each fact: "function NAME IMAGE", "device cpu", ...
#   SHA256SUMS       of images.tar.gz and nuctl
#   nuctl            for the platform of the machine that made it
#   functions/NAME/  function.yaml of each function
#   cvat-functions/  the scripts, for a machine that has none
#   images.tar.gz    docker save

NUCTL_STORE=nuclio-local-storage-reader # the container in which nuctl keeps its records

# make_bundle: writes $BUNDLE_OUT; the functions' base images are there already.
make_bundle() {
  local i name folder=$SCRATCH/bundle images=() store
  heading "Building ${#NAMES[@]} function$([ ${#NAMES[@]} = 1 ] || echo s)"
  run mkdir -p "$folder/functions"
  for i in "${!NAMES[@]}"; do
    name=${NAMES[i]}
    [ -n "$DRY_RUN" ] || say_step "$i" "building ${IMAGES[i]}"
    fetch_weights "$i" || STATUS=1 die "the weights of $name can't be fetched"
    bundle_function "$i" || STATUS=1 die "$name can't be built: $CAUSE" "${CURE:-all of it: $LOGS/$name.log}"
    run mkdir -p "$folder/functions/$name"
    run cp "${DIRS[i]}/function.yaml" "$folder/functions/$name/function.yaml"
    images+=("${IMAGES[i]}")
  done
  # nuctl has started the container of its store by now: its image goes along, whatever this version of nuctl calls it.
  ask_nuctl get projects >/dev/null
  store=$(docker inspect -f '{{.Config.Image}}' "$NUCTL_STORE" 2>/dev/null)
  if [ -z "$store" ] && [ -z "$DRY_RUN" ]; then STATUS=1 die "nuctl's store ($NUCTL_STORE) does not run: its image is needed too"; fi
  [ -z "$store" ] || images+=("$store")
  [ -z "$DASHBOARD_CONTAINER" ] || images+=("$(docker inspect -f '{{.Config.Image}}' "$DASHBOARD_CONTAINER")")
  heading "Packing ${#images[@]} images"
  if [ -n "$DRY_RUN" ]; then
    printf '+ %s | gzip -1 > %s\n' "$(quoted docker save "${images[@]}")" "$folder/images.tar.gz"
    printf '+ tar -c ... > %s\n' "$BUNDLE_OUT"
    return
  fi
  docker save "${images[@]}" | gzip -1 >"$folder/images.tar.gz" || STATUS=1 die "the images can't be packed" "is there room in ${TMPDIR:-/tmp}? TMPDIR=... takes another folder"
  cp "$NUCTL" "$folder/nuctl"
  (cd "$folder" && sha256 images.tar.gz nuctl >SHA256SUMS)
  write_manifest >"$folder/manifest"
  pack_scripts "$folder/cvat-functions"
  # What is read first comes first: a bundle is looked at without going through its images.
  if ! tar -C "$folder" -cf "$BUNDLE_OUT.part" manifest SHA256SUMS nuctl functions cvat-functions images.tar.gz || ! mv "$BUNDLE_OUT.part" "$BUNDLE_OUT"; then
    rm -f "$BUNDLE_OUT.part"
    STATUS=1 die "$BUNDLE_OUT can't be written: is there room on its disk?"
  fi
  good "$BUNDLE_OUT: $(human_size "$(wc -c <"$BUNDLE_OUT")"), ${#NAMES[@]} function$([ ${#NAMES[@]} = 1 ] || echo s)"
  echo "  On the machine without a network:"
  echo "    tar -xf $(basename "$BUNDLE_OUT") cvat-functions && cvat-functions/$SCRIPT --offline $(basename "$BUNDLE_OUT")"
}

bundle_function() { # index
  local i=$1 log=$LOGS/${NAMES[$1]}.log command
  command=(build "${NAMES[i]}" --path "${DIRS[i]}" --file "${DIRS[i]}/function.yaml" --image "${IMAGES[i]}" --no-pull)
  [ -z "$(framework_of "${BASES[i]%:*}")" ] || command+=(--base-image "${BASES[i]}")
  if [ -n "$DRY_RUN" ]; then
    nuctl "${command[@]}"
    return
  fi
  nuctl "${command[@]}" >"$log" 2>&1 && return
  explain "$log" /dev/null ''
  return 1
}

write_manifest() {
  local i
  printf 'format 1\nmade %s\ndevice %s\narchitecture %s\nnuctl %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$DEVICE" "$(docker_architecture)" "$NUCTL_VERSION"
  for i in "${!NAMES[@]}"; do printf 'function %s %s\n' "${NAMES[i]}" "${IMAGES[i]}"; done
}

# The scripts and what they read; no weights: the images hold them.
pack_scripts() { # folder
  mkdir -p "$1"
  tar -C "$ROOT" --exclude=__pycache__ --exclude='weights' -c deploy_cpu.sh deploy_gpu.sh deploy tools/__init__.py tools/wrapper.py \
    tools/collection.py tools/durations.py serverless/collection.py tools/check tools/workers compose.yaml LICENSE | tar -C "$1" -x
}

docker_architecture() { docker info --format '{{.Architecture}}' 2>/dev/null; }

sha256() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

# open_bundle: looks into $BUNDLE; its nuctl and its functions are used from here on.
open_bundle() {
  local folder=$SCRATCH/bundle name known wanted=()
  mkdir -p "$folder"
  BUNDLE=$(cd "$(dirname "$BUNDLE")" && pwd -P)/$(basename "$BUNDLE")
  tar -C "$folder" -xf "$BUNDLE" manifest SHA256SUMS nuctl functions 2>/dev/null ||
    die "$BUNDLE is not a bundle, or not all of it has arrived" "make it anew on a connected machine: make bundle"
  [ "$(fact format)" = 1 ] || die "$BUNDLE has a format that this version does not know: $(fact format)" "use the scripts inside it: tar -xf $BUNDLE cvat-functions"
  [ "$(fact device)" = "$DEVICE" ] || die "$BUNDLE was made for the $(fact device)" "use deploy_$(fact device).sh"
  if [ "$(cd "$folder" && sha256 nuctl)" != "$(grep ' nuctl$' "$folder/SHA256SUMS")" ]; then die "$BUNDLE is damaged: nuctl in it is not what SHA256SUMS says" "copy it again"; fi
  chmod +x "$folder/nuctl"
  NUCTL=$folder/nuctl
  for name in ${ARGUMENTS[@]+"${ARGUMENTS[@]}"}; do
    [ ! -f "$name/function.yaml" ] || name=$(yaml_value "$(yaml_fields "$name/function.yaml")" metadata.name)
    [ -d "$folder/functions/$name" ] || die "$name is not in the bundle" "in it: $(sed -nE 's/^function ([^ ]+) .*/\1/p' "$folder/manifest" | tr '\n' ' ')"
    wanted+=("$folder/functions/$name")
  done
  known=$folder/functions
  ARGUMENTS=(${wanted[@]+"${wanted[@]}"})
  [ ${#ARGUMENTS[@]} -gt 0 ] || ARGUMENTS=("$known")
}

fact() { sed -n "s/^$1 //p" "$SCRATCH/bundle/manifest" | head -n 1; }

bundle_image() { sed -nE 's/^function [^ ]+ //p' "$SCRATCH/bundle/manifest" | head -n 1; }

# The images as the bundle names them: a function has no base image to be built here.
load_bundle_images() {
  local i sum
  [ "$(fact architecture)" = "$(docker_architecture)" ] || [ -n "$DRY_RUN" ] ||
    STATUS=1 die "the bundle's images are for $(fact architecture), this machine is $(docker_architecture)" "make the bundle on a machine of the same kind"
  heading "Loading images"
  for i in "${!NAMES[@]}"; do IMAGES[i]=$(sed -nE "s/^function ${NAMES[i]} //p" "$SCRATCH/bundle/manifest"); done
  if [ -n "$DRY_RUN" ]; then
    printf '+ %s | docker load\n' "$(quoted tar -xOf "$BUNDLE" images.tar.gz)"
    return
  fi
  # Read once: on its way to Docker the stream is summed up.
  sum=$(tar -xOf "$BUNDLE" images.tar.gz | tee >(docker load >"$SCRATCH/load.log" 2>&1; echo "$?" >"$SCRATCH/load.status") | sha256 | cut -d ' ' -f 1)
  while [ ! -s "$SCRATCH/load.status" ]; do sleep 0.1; done
  [ "$sum" = "$(sed -n 's/ .*images.tar.gz$//p' "$SCRATCH/bundle/SHA256SUMS")" ] || STATUS=1 die "$BUNDLE is damaged: its images are not what SHA256SUMS says" "copy it again"
  [ "$(<"$SCRATCH/load.status")" = 0 ] || STATUS=1 die "Docker can't load the images: $(last_words "$SCRATCH/load.log")"
  grep -c '^Loaded' "$SCRATCH/load.log" | sed 's/^/  /; s/$/ images/'
}
