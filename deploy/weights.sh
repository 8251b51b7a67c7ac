# shellcheck shell=bash
# Where a function's weights come from: fetched into its directory before the build, where they are found again at the next
# one; or a folder of the user's, mounted (--weights); or the images of a bundle.

# weights_of INDEX: the folder below --weights for a function; DIR itself when there is one function and no such folder.
weights_of() {
  local name=${NAMES[$1]}
  if [ -d "$WEIGHTS/$name" ]; then
    printf '%s' "$WEIGHTS/$name"
  elif [ ${#NAMES[@]} = 1 ]; then
    printf '%s' "$WEIGHTS"
  fi
}

# The one file that a folder holds, or nothing: what MODEL_PATH is when it is mounted.
only_file() { # folder
  local file found=''
  for file in "$1"/*; do
    case $file in *.sha256 | *.md | *.txt) continue ;; esac
    [ -f "$file" ] || return 0
    [ -z "$found" ] || return 0
    found=$(basename "$file")
  done
  printf '%s' "$found"
}

# fetch_weights INDEX: fetches what weights.yaml names into the function's directory, with the function's own tool in its
# base image, so that no Python is needed here. Where a folder can't be mounted, the build fetches it by itself.
fetch_weights() {
  local directory=${DIRS[$1]} image=${BASES[$1]} fields variant
  grep -qE '^ *(- *)?url:' "$directory/weights.yaml" 2>/dev/null || return 0
  [ -n "$(framework_of "${image%:*}")" ] || return 0
  fields=$(yaml_fields "$directory/function.yaml")
  variant=$(given_environment VARIANT)
  variant=${variant:-$(yaml_env "$fields" VARIANT)}
  [ -n "$DRY_RUN" ] || say_step "$1" "weights"
  run docker run --rm --user "$(id -u):$(id -g)" --network host --env HF_TOKEN --mount "type=bind,source=$directory,destination=/function" \
    "$image" python -m common.networks.weights /function ${variant:+--variant "$variant"}
}

given_environment() { # name -> the value that --env gives it
  local pair
  for pair in ${ENVIRONMENT[@]+"${ENVIRONMENT[@]}"}; do
    [ "${pair%%=*}" != "$1" ] || printf '%s' "${pair#*=}"
  done
}

# stage INDEX: a copy of a function's directory without weights, for a build that leaves them to the mounted folder.
# Prints the copy's path. The marker tells common.networks.weights that there is nothing to fetch.
stage() {
  local copy=$SCRATCH/stage/${NAMES[$1]}
  run mkdir -p "$SCRATCH/stage" >&2
  run cp -RL "${DIRS[$1]}" "$copy" >&2
  run rm -rf "$copy/weights" "$copy/__pycache__" >&2
  run mkdir "$copy/weights" >&2
  run touch "$copy/weights/.mounted" >&2
  printf '%s' "$copy"
}
