# shellcheck shell=bash
# The project of CVAT's functions in Nuclio, and the base images that functions are built on.

make_project() {
  if ask_nuctl get projects cvat >/dev/null; then return; fi
  nuctl create project cvat >"$SCRATCH/project.log" 2>&1 ||
    STATUS=1 die "nuctl can't make the project cvat: $(last_words "$SCRATCH/project.log")"
  [ -z "$DRY_RUN" ] || cat "$SCRATCH/project.log"
}

# Builds each base image that the functions need, once. Docker's cache makes the second time a matter of a second.
build_base_images() {
  local i base framework built=' ' log arguments
  heading "Base images"
  for i in "${!NAMES[@]}"; do
    base=${BASES[i]}
    framework=$(framework_of "${base%:*}")
    if [ -z "$framework" ] || [[ $built == *" $base "* ]]; then continue; fi
    built+="$base "
    log=$LOGS/${base%:*}.log
    arguments=(--build-arg "PYTHON_IMAGE=$PYTHON_IMAGE" --build-arg "DEVICE=${DEVICES[i]}")
    for variable in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST; do
      [ -z "${!variable:-}" ] || arguments+=(--build-arg "$variable=${!variable}")
    done
    [ -n "$DRY_RUN" ] || printf '  %s ... ' "$base"
    if build_base_image "$base" "$framework" "${arguments[@]}" >"$log" 2>&1; then
      if [ -n "$DRY_RUN" ]; then cat "$log"; else printf '%s\n' "$(image_size "$base")"; fi
    else
      echo
      explain "$log" /dev/null ''
      tail -n 15 "$log" | sed 's/^/    /'
      STATUS=1 die "the base image $base can't be built: $CAUSE" "${CURE:-the whole log: $log}"
    fi
    push_base_image "$base"
  done
  [ "$built" != ' ' ] || echo "  none needed"
}

# The context holds the Dockerfile, and the script and the two folders that it copies; nothing else of the repository.
build_base_image() { # image framework build arguments...
  local image=$1 folder=$ROOT/serverless/$2
  shift 2
  local context=(tar -C "$ROOT" --exclude=__pycache__ -c common -C "$folder" base -C "$ROOT/deploy" Dockerfile base_packages.py)
  local build=(docker build --network host -t "$image" "$@" -)
  if [ -n "$DRY_RUN" ]; then
    printf '+ %s | %s\n' "$(quoted "${context[@]}")" "$(quoted "${build[@]}")"
  else
    "${context[@]}" | "${build[@]}"
  fi
}

push_base_image() { # image
  [ "$PLATFORM" = kube ] || return 0
  run docker tag "$1" "$REGISTRY/$1"
  if ! run docker push "$REGISTRY/$1" >"$SCRATCH/push.log" 2>&1; then
    STATUS=1 die "$REGISTRY/$1 can't be pushed: $(last_words "$SCRATCH/push.log")" "docker login ${REGISTRY%%/*}; the cluster must be able to pull from it too"
  fi
  [ -z "$DRY_RUN" ] || cat "$SCRATCH/push.log"
}

image_size() {
  human_size "$(docker image inspect -f '{{.Size}}' "$1" 2>/dev/null)"
}
