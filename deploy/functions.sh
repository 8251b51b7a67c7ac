# shellcheck shell=bash
# The functions to deploy: parallel arrays with an entry for each.

DIRS=() NAMES=() KINDS=() BASES=() IMAGES=() DEVICES=() PORTS=()

# find_functions: fills the arrays from ARGUMENTS, the whole collection when there are none.
find_functions() {
  local argument directory file found
  [ ${#ARGUMENTS[@]} -gt 0 ] || ARGUMENTS=("$ROOT/serverless")
  for argument in "${ARGUMENTS[@]}"; do
    directory=''
    for file in "$argument" "$ROOT/serverless/$argument" "$ROOT/$argument"; do
      [ -d "$file" ] && directory=$(cd "$file" && pwd -P) && break
    done
    [ -n "$directory" ] || directory=$(directory_of_name "$argument")
    [ -n "$directory" ] || die "$argument: there is no such function" "give a directory with a function.yaml, or a folder that holds some"
    found=''
    while IFS= read -r file; do
      found=yes
      add_function "$(dirname "$file")"
    done < <(find "$directory" -name function.yaml -not -path '*/.*/*' | LC_ALL=C sort)
    [ -n "$found" ] || die "$argument: there is no function.yaml in it"
  done
}

# directory_of_name NAME: the directory of the function of that name in the collection, such as opencv-grabcut.
directory_of_name() {
  local file
  while IFS= read -r file; do
    if [ "$(yaml_value "$(yaml_fields "$file")" metadata.name)" = "$1" ]; then
      dirname "$file"
      return
    fi
  done < <(find "$ROOT/serverless" -name function.yaml)
}

add_function() { # directory
  local directory=$1 fields name kind i
  fields=$(yaml_fields "$directory/function.yaml")
  name=$(yaml_value "$fields" metadata.name)
  kind=$(yaml_value "$fields" metadata.annotations.type)
  [[ $name =~ ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$ ]] ||
    die "$directory/function.yaml: metadata.name: expected lower-case letters, digits and dashes, got '$name'"
  for i in "${!NAMES[@]}"; do
    [ "${DIRS[i]}" != "$directory" ] || return 0
    [ "${NAMES[i]}" != "$name" ] || die "two functions have the name $name: ${DIRS[i]} and $directory" "rename one: metadata.name"
  done
  DIRS+=("$directory")
  NAMES+=("$name")
  KINDS+=("${kind:-?}")
  add_images "$fields" "$name"
  PORTS+=('')
}

# The base image of a framework of the collection is built here, from its folder `base`; any other is the function's own.
framework_of() { # base image, such as cvat.onnx.base
  local framework=${1#cvat.}
  framework=${framework%.base}
  [ "$1" = "cvat.$framework.base" ] && [ -f "$ROOT/serverless/$framework/base/requirements.txt" ] && printf '%s' "$framework"
}

# shellcheck disable=SC2153 # DEVICE is the script's, DEVICES holds each function's
add_images() { # fields name: base image, image and device of a function
  local base image framework device=$DEVICE tag=latest
  base=$(yaml_value "$1" spec.build.baseImage)
  image=$(yaml_value "$1" spec.build.image)
  image=${image:-nuclio/processor-$2}
  framework=$(framework_of "$base")
  # A framework without GPU packages runs on the CPU by either script.
  if [ -n "$framework" ] && ! [ -f "$ROOT/serverless/$framework/base/requirements-gpu.txt" ]; then device=cpu; fi
  [ "$device" = cpu ] || tag=latest-gpu
  [ -z "$framework" ] || base=$base:$tag
  DEVICES+=("$device")
  BASES+=("$base")
  if [ "$device" = gpu ]; then IMAGES+=("${image%%:*}:$tag"); else
    case $image in *:*) IMAGES+=("$image") ;; *) IMAGES+=("$image:latest") ;; esac
  fi
}

# Runs nuctl for the chosen platform, in a folder where it may leave its temporary files.
nuctl() {
  (cd "$SCRATCH" && run "$NUCTL" "$@" --platform "$PLATFORM" --namespace "$NAMESPACE")
}

# The same for questions: also asked in a dry run.
ask_nuctl() {
  [ -n "$NUCTL" ] || return 1
  (cd "$SCRATCH" && "$NUCTL" "$@" --platform "$PLATFORM" --namespace "$NAMESPACE" 2>/dev/null)
}

container_of() { printf 'nuclio-%s-%s' "$NAMESPACE" "$1"; }

state_of() { # name -> ready, building, error, ...; nothing when Nuclio doesn't know it
  ask_nuctl get function "$1" -o json | tr -d '\n\t' | sed -n 's/.*"status": *{ *"state": *"\([a-zA-Z]*\)".*/\1/p'
}

list_functions() {
  heading "Functions in project cvat"
  ask_nuctl get function -l nuclio.io/project-name=cvat -o wide || die "nuctl can't list functions" "$NUCTL get function --platform $PLATFORM shows why"
  [ "$PLATFORM" = local ] || return 0
  heading "Containers"
  docker ps --all --filter label=nuclio.io/project-name=cvat --format 'table {{.Names}}\t{{.Status}}\t{{.Ports}}\t{{.Size}}'
}

remove_functions() {
  local i failed=0
  heading "Removing"
  for i in "${!NAMES[@]}"; do
    if [ -z "$DRY_RUN" ] && [ -z "$(state_of "${NAMES[i]}")" ]; then
      note "${NAMES[i]} is not deployed"
    elif nuctl delete function "${NAMES[i]}" --force >"$SCRATCH/remove.log" 2>&1; then
      if [ -n "$DRY_RUN" ]; then cat "$SCRATCH/remove.log"; else good "${NAMES[i]} removed"; fi
    else
      printf '  %sFAILED%s  %s: %s\n' "$RED" "$PLAIN" "${NAMES[i]}" "$(last_words "$SCRATCH/remove.log")"
      failed=1
    fi
  done
  [ "$failed" = 0 ] || exit 1
}
