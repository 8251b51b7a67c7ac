# shellcheck shell=bash disable=SC2034 # run.sh's other parts read what is set here
# A real inference through the routes that CVAT uses: straight to the function's port, and through Nuclio's dashboard.

# verify INDEX: sets SECONDS_TAKEN and FOUND ("3 shapes"), or CAUSE and CURE and fails. Writes both replies to the scratch.
verify() {
  local i=$1 name=${NAMES[$1]} kind=${KINDS[$1]} sample folder=$SCRATCH/${NAMES[$1]} route
  local routes=()
  SECONDS_TAKEN='' FOUND=''
  sample=$(sample_of "$i")
  if [ -z "$sample" ]; then
    FOUND="not tried: there is no sample for a $kind"
    return 0
  fi
  mkdir -p "$folder"
  [ "$PLATFORM" = kube ] || routes+=(direct)
  [ -z "$DASHBOARD" ] || routes+=(dashboard)
  for route in ${routes[@]+"${routes[@]}"}; do
    if ! send "$route" "$name" "${PORTS[i]}" "$sample" "$folder"; then
      CAUSE="$(where "$route" "$i"): $(no_answer "$route" "$folder")"
      return 1
    fi
    [ -n "$SECONDS_TAKEN" ] || SECONDS_TAKEN=$(cut -d ' ' -f 2 "$folder/$route.status")
  done
  [ ${#routes[@]} -gt 0 ] || return 0
  check_replies "$i" "$sample" "$folder" "${routes[@]}"
}

where() { # route index
  if [ "$1" = direct ]; then printf 'port %s' "${PORTS[$2]}"; else printf 'through the dashboard'; fi
}

# The request that goes with a function's kind, and with the shapes that a tracker takes.
sample_of() { # index
  local kind=${KINDS[$1]} types type fields
  case $kind in
    detector | interactor | reid) printf '%s' "$ROOT/deploy/samples/$kind.json" ;;
    tracker)
      fields=$(yaml_fields "${DIRS[$1]}/function.yaml")
      types=$(yaml_value "$fields" metadata.annotations.supported_shape_types)
      if [ -z "$types" ]; then
        printf '%s' "$ROOT/deploy/samples/tracker-legacy.json"
      else
        for type in ${types//,/ }; do
          [ ! -f "$ROOT/deploy/samples/tracker-$type.json" ] || { printf '%s' "$ROOT/deploy/samples/tracker-$type.json"; return; }
        done
      fi
      ;;
  esac
}

# send ROUTE NAME PORT SAMPLE FOLDER: FOLDER/ROUTE.reply is the body, FOLDER/ROUTE.status "200 0.41 application/json".
send() {
  local to=()
  if [ "$1" = direct ]; then
    to=("http://$DOCKER_ADDRESS:$3/")
  else
    to=(-H "x-nuclio-project-name: cvat" -H "x-nuclio-function-namespace: $NAMESPACE" -H "x-nuclio-function-name: $2"
      -H "x-nuclio-path: /" -H "x-nuclio-invoke-via: domain-name" -H "X-Nuclio-Invoke-Timeout: 120s"
      "$DASHBOARD/api/function_invocations")
  fi
  : >"$5/$1.reply"
  curl -sS -m 130 -o "$5/$1.reply" -w '%{http_code} %{time_total} %{content_type}' -H 'Content-Type: application/json' \
    --data-binary "@$4" "${to[@]}" >"$5/$1.status" 2>"$5/$1.error" && [[ $(<"$5/$1.status") == 2* ]]
}

no_answer() { # route folder -> what came instead of an answer
  local status
  read -r status _ <"$2/$1.status"
  case $status in
    000 | '') printf 'no answer (%s)' "$(tail -n 1 "$2/$1.error" | sed 's/^curl: ([0-9]*) //')" ;;
    *) printf '%s: %s' "$status" "$(head -c 300 "$2/$1.reply" | tr '\n' ' ')" ;;
  esac
}

# The replies are checked by the project's own rules (tools/check), in a container, as there may be no Python on this host:
# deploy/check_reply.py goes there with all it needs in one stream, into the function's image or a base image.
check_replies() { # index sample folder routes...
  local i=$1 sample=$2 folder=$3 route image result status
  local files=(function.yaml request.json)
  shift 3
  for route in "$@"; do files+=("$route.reply" "$route.status"); done
  cp "$sample" "$folder/request.json"
  cp "${DIRS[i]}/function.yaml" "$folder/function.yaml"
  for image in "${IMAGES[i]}" "${BASES[i]}" cvat.opencv.base:latest cvat.onnx.base:latest cvat.pytorch.base:latest; do
    if [ -z "$image" ] || ! docker image inspect "$image" >/dev/null 2>&1; then continue; fi
    result=$(
      tar -c --exclude=__pycache__ -C "$ROOT" deploy/check_reply.py tools/__init__.py tools/wrapper.py tools/collection.py \
        tools/durations.py serverless/collection.py tools/check tools/workers -C "$folder" "${files[@]}" |
        docker run --rm -i --network none --user "$RUN_AS" --entrypoint sh "$image" -c "$CHECK_IN_CONTAINER" check "$@" 2>&1
    )
    status=$?
    # An image of somebody else's function has no `common`.
    [ "$status" = "$NO_COMMON" ] && continue
    if [ "$status" = 0 ]; then
      FOUND=$result
      return
    fi
    CAUSE="the reply is not what CVAT takes: $(head -n 1 <<<"$result")"
    printf '%s\n' "$result" >"$folder/findings"
    return 1
  done
  case $(head -c 1 "$folder/$1.reply") in
    '[' | '{') FOUND='an answer in JSON' ;;
    *) CAUSE="the reply is not JSON: $(head -c 200 "$folder/$1.reply")" && return 1 ;;
  esac
}

NO_COMMON=86
# shellcheck disable=SC2016 # the shell in the container expands it
CHECK_IN_CONTAINER='python -c "import common.config" 2>/dev/null || { cat >/dev/null; exit '$NO_COMMON'; }
mkdir /tmp/check && cd /tmp/check && tar -x && PYTHONPATH=. python deploy/check_reply.py "$@"'
