# shellcheck shell=bash
# One function: built, deployed, waited for, tried. Runs in a subshell of its own; its result is a file in the scratch.

say_step() { printf '  [%d/%d] %s: %s\n' "$(($1 + 1))" "${#NAMES[@]}" "${NAMES[$1]}" "$2"; }

deploy_all() {
  local i running=0
  heading "Deploying ${#NAMES[@]} function$([ ${#NAMES[@]} = 1 ] || echo s) for the $([ "$DEVICE" = gpu ] && echo GPU || echo CPU)"
  trap 'interrupted' INT TERM
  for i in "${!NAMES[@]}"; do
    if [ "$running" -ge "$JOBS" ]; then
      wait -n
      running=$((running - 1))
    fi
    deploy_one "$i" &
    running=$((running + 1))
  done
  wait
  trap - INT TERM
}

interrupted() {
  trap '' INT TERM
  printf '\n%s: interrupted; ending what is under way\n' "$SCRIPT" >&2
  # shellcheck disable=SC2046 # one word for each job
  kill -TERM $(jobs -p) 2>/dev/null
  wait
  STATUS=130 die "interrupted: functions that were being deployed are not; deploying them again starts them afresh"
}

deploy_one() { # index
  local i=$1 name=${NAMES[$1]} was was_image nuctl_pid='' began=$SECONDS
  local log=$LOGS/$name.log
  # Ctrl-C reaches the whole process group; the main script then ends its jobs in order.
  trap '' INT
  trap 'give_up "$i" "$was"' TERM
  was=$(docker inspect -f '{{.Id}}' "$(container_of "$name")" 2>/dev/null)
  was_image=$(docker inspect -f '{{.Image}}' "$(container_of "$name")" 2>/dev/null)
  : >"$log" && : >"$SCRATCH/$name.container"
  if [ -z "$DRY_RUN" ]; then clear_stuck "$i"; fi
  CAUSE='' CURE=''
  if [ -z "$BUNDLE$WEIGHTS$NO_BUILD" ]; then
    # The progress is for the eyes, and for the log.
    fetch_weights "$i" 2>&1 | tee -a "$log"
    if [ "${PIPESTATUS[0]}" != 0 ]; then
      CAUSE="its weights can't be fetched: $(last_words "$log")"
      CURE="with weights of your own: --weights DIR; without a network: --offline"
      result "$i" failed
      return
    fi
  fi
  if ! deploy_command "$i"; then
    result "$i" failed
    return
  fi
  if [ -n "$DRY_RUN" ]; then
    nuctl "${COMMAND[@]}"
    result "$i" dry
    return
  fi
  say_step "$i" "$([ -n "$BUNDLE$NO_BUILD" ] && echo "starting" || echo "building and starting")"
  (cd "$SCRATCH" && exec "$NUCTL" "${COMMAND[@]}" --platform "$PLATFORM" --namespace "$NAMESPACE") >>"$log" 2>&1 &
  nuctl_pid=$!
  watch_start "$i" "$was" "$nuctl_pid"
  if ! wait "$nuctl_pid"; then
    [ "$PLATFORM" = kube ] || save_container_log "$i"
    explain "$log" "$SCRATCH/$name.container" "$(oom_killed "$name")"
    result "$i" failed
    return
  fi
  nuctl_pid=''
  if [ -n "$VERIFY" ] && ! { right_state "$i" && verify "$i"; }; then
    [ "$PLATFORM" = kube ] || save_container_log "$i"
    [ -n "$CURE" ] || CURE=$(cure_of_reply "$i")
    result "$i" failed
    return
  fi
  say_step "$i" "ready$([ -z "${PORTS[i]}" ] || echo " on port ${PORTS[i]}"), ${FOUND:-not tried}${SECONDS_TAKEN:+ in $(printf '%.2f' "$SECONDS_TAKEN") s} ($((SECONDS - began)) s in all)"
  result "$i" ready
}

# deploy_command INDEX: COMMAND is what nuctl is called with.
deploy_command() {
  local i=$1 name=${NAMES[$1]} directory=${DIRS[$1]} fields triggers workers='' attributes pair folder file
  fields=$(yaml_fields "$directory/function.yaml")
  COMMAND=(deploy --project-name cvat --no-pull)
  if [ -n "$BUNDLE$NO_BUILD" ]; then
    if [ -z "$DRY_RUN" ] && [ "$PLATFORM" = local ] && ! docker image inspect "${IMAGES[i]}" >/dev/null 2>&1; then
      CAUSE="there is no image ${IMAGES[i]} here"
      CURE="deploy it once without --no-build"
      return 1
    fi
    without_build "$directory/function.yaml" >"$SCRATCH/$name.yaml"
    COMMAND+=(--file "$SCRATCH/$name.yaml" --run-image "${REGISTRY:+$REGISTRY/}${IMAGES[i]}")
  else
    [ -z "$WEIGHTS" ] || [ -z "$(weights_of "$i")" ] || directory=$(stage "$i")
    # A link in it is followed: nuctl would fail on one.
    COMMAND+=(--path "$directory" --file "${DIRS[i]}/function.yaml" --image "${IMAGES[i]}")
    if [ -n "$(framework_of "${BASES[i]%:*}")" ]; then COMMAND+=(--base-image "${REGISTRY:+$REGISTRY/}${BASES[i]}"); fi
  fi
  if [ "${DEVICES[i]}" = gpu ]; then
    # Each worker would load a model of its own onto the same GPU.
    workers=1
    COMMAND+=(--resource-limit "nvidia.com/gpu=$GPUS" --env DEVICE=cuda)
  fi
  if [ -n "${PORTS[i]}$workers" ]; then
    if ! triggers=$(trigger_json "$fields" "${PORTS[i]}" "$workers"); then
      CAUSE="its HTTP trigger holds a list or a map below attributes, which can't be passed on with a port"
      CURE="write attributes.port: ${PORTS[i]} into its function.yaml by hand, and leave out what is not a plain value"
      return 1
    fi
    COMMAND+=(--triggers "$triggers")
  fi
  if [ "$PLATFORM" = local ]; then
    attributes=''
    [ -z "$NETWORK" ] || attributes="\"network\":\"$NETWORK\""
    # Without one a function does not come back after a reboot.
    [ -n "$(yaml_value "$fields" spec.platform.attributes.restartPolicy.name)" ] || attributes+="${attributes:+,}\"restartPolicy\":{\"name\":\"always\"}"
    [ -z "$attributes" ] || COMMAND+=(--platform-config "{\"attributes\":{$attributes}}")
  else
    COMMAND+=(--registry "$REGISTRY")
    [ -z "$RUN_REGISTRY" ] || COMMAND+=(--run-registry "$RUN_REGISTRY")
    [ -z "$MIN_REPLICAS" ] || COMMAND+=(--min-replicas "$MIN_REPLICAS")
    [ -z "$MAX_REPLICAS" ] || COMMAND+=(--max-replicas "$MAX_REPLICAS")
    [ -z "$TARGET_CPU" ] || COMMAND+=(--target-cpu "$TARGET_CPU")
    for pair in ${NODE_SELECTORS[@]+"${NODE_SELECTORS[@]}"}; do COMMAND+=(--nodeSelector "$pair"); done
  fi
  COMMAND+=(--run-as-user "${RUN_AS%:*}" --run-as-group "${RUN_AS#*:}")
  for pair in ${REDIS[@]+"${REDIS[@]}"}; do COMMAND+=(--env "$pair"); done
  if [ -n "$WEIGHTS" ]; then
    folder=$(weights_of "$i")
    if [ -n "$folder" ]; then
      COMMAND+=(--volume "$folder:/opt/nuclio/weights")
      file=$(only_file "$folder")
      [ -z "$file" ] || COMMAND+=(--env "MODEL_PATH=/opt/nuclio/weights/$file")
    elif [ -f "$directory/weights.yaml" ]; then
      CAUSE="--weights: there is no folder $WEIGHTS/$name"
      CURE="make it, with the function's files in it: weights.yaml in its directory names them"
      return 1
    fi
  fi
  # The user's own come last: the last one of a name counts.
  for pair in ${ENVIRONMENT[@]+"${ENVIRONMENT[@]}"}; do COMMAND+=(--env "$pair"); done
}

# CVAT's store for larger states and shared caches, where it can be reached.
find_store() {
  REDIS=()
  local host=${CVAT_FUNCTIONS_REDIS_HOST:-}
  if [ -z "$host" ] && [ -n "$NETWORK" ] && docker network inspect -f '{{range .Containers}}{{.Name}} {{end}}' "$NETWORK" 2>/dev/null | grep -qw "$CVAT_STORE"; then
    host=$CVAT_STORE
  fi
  [ -z "$host" ] || REDIS=("CVAT_FUNCTIONS_REDIS_HOST=$host" "CVAT_FUNCTIONS_REDIS_PORT=${CVAT_FUNCTIONS_REDIS_PORT:-6666}")
}

# An interrupted deployment leaves the function in the state `building`, and Nuclio then refuses to deploy it.
clear_stuck() { # index
  case $(state_of "${NAMES[$1]}") in
    building | waitingForBuild | waitingForResourceConfiguration | configuringResources)
      say_step "$1" "clearing what an interrupted deployment left"
      nuctl delete function "${NAMES[$1]}" --force >>"$LOGS/${NAMES[$1]}.log" 2>&1
      ;;
  esac
}

# Nuclio waits for readinessTimeoutSeconds even when the function dies at once, as its restart policy starts it again and
# again. A container that has been restarted has failed: it is stopped, and nuctl then gives up with its log.
watch_start() { # index id of the container before, if any; process of nuctl
  local container restarts id
  container=$(container_of "${NAMES[$1]}")
  while kill -0 "$3" 2>/dev/null; do
    sleep "${DEPLOY_POLL:-1}" &
    wait $!
    [ "$PLATFORM" = local ] || continue
    read -r id restarts < <(docker inspect -f '{{.Id}} {{.RestartCount}}' "$container" 2>/dev/null) || continue
    if [ -z "$id" ] || [ "$id" = "$2" ] || [ "${restarts:-0}" -lt 1 ]; then continue; fi
    save_container_log "$1"
    docker update --restart=no "$container" >/dev/null 2>&1
    docker stop --time 1 "$container" >/dev/null 2>&1
    return
  done
}

save_container_log() { # index
  local file=$SCRATCH/${NAMES[$1]}.container
  docker logs --tail 400 "$(container_of "${NAMES[$1]}")" >"$file.new" 2>&1 && mv "$file.new" "$file"
  cat "$file" >>"$LOGS/${NAMES[$1]}.log"
}

oom_killed() { docker inspect -f '{{.State.OOMKilled}}' "$(container_of "$1")" 2>/dev/null; }

# The state and port in Nuclio's own list, from which CVAT takes both.
right_state() { # index
  local name=${NAMES[$1]} answer state port
  [ -n "$DASHBOARD" ] || return 0
  answer=$(curl -fsS -m 20 -H "x-nuclio-project-name: cvat" -H "x-nuclio-function-namespace: $NAMESPACE" "$DASHBOARD/api/functions/$name" 2>&1) || {
    CAUSE="Nuclio's dashboard does not list it: $(tail -n 1 <<<"$answer")"
    CURE="does the dashboard at $DASHBOARD belong to this Docker, and to namespace $NAMESPACE?"
    return 1
  }
  state=$(grep -oE '"state": ?"[a-zA-Z]+"' <<<"$answer" | tail -n 1 | sed -E 's/.*"([a-zA-Z]+)"$/\1/')
  port=$(grep -oE '"httpPort": ?[0-9]+' <<<"$answer" | tail -n 1 | grep -oE '[0-9]+$')
  if [ "$state" != ready ]; then
    CAUSE="Nuclio says that its state is ${state:-unknown}"
    return 1
  fi
  if [ "$PLATFORM" = local ] && [ "$port" != "${PORTS[$1]}" ]; then
    CAUSE="Nuclio has it on port ${port:-?}, not ${PORTS[$1]}"
    CURE="deploy it again; if it stays, nuctl delete function $name --force first"
    return 1
  fi
}

cure_of_reply() { # index
  if [ -s "$SCRATCH/${NAMES[$1]}/findings" ]; then
    echo "make check FUNCTION=${DIRS[$1]} shows all that is wrong with the function"
  else
    echo "the end of its log says why; all of it: docker logs $(container_of "${NAMES[$1]}")"
  fi
}

# The end of a log without Nuclio's own chatter, which begins anew after each restart.
log_end() { # file
  sed -e 's/\x1b\[[0-9;]*m//g' "$1" | grep -vE '^$|\((D|I)\) |goroutine [0-9]+|\.go:[0-9]+|/nuclio/pkg/|^(created by|panic: Wrapper)|"?EOF"?|No metric sinks' |
    tail -n 12 | cut -c 1-200 | sed 's/^/            /'
}

# result INDEX STATE: for the summary; a failure is shown at once, too.
result() {
  local i=$1 name=${NAMES[$1]}
  printf '%s\n' "$2" "${SECONDS_TAKEN:-}" "${FOUND:-}" "$CAUSE" "$CURE" >"$SCRATCH/$name.result"
  [ "$2" = failed ] || return 0
  {
    say_step "$i" "${RED}FAILED${PLAIN}: $CAUSE"
    [ -z "$CURE" ] || cure "$CURE"
    if [ -s "$SCRATCH/$name/findings" ]; then
      sed 's/^/            /' "$SCRATCH/$name/findings" | head -n 8
    fi
    if [ -s "$SCRATCH/$name.container" ]; then
      cure "the end of its log:"
      log_end "$SCRATCH/$name.container"
    elif [ -s "$LOGS/$name.log" ]; then
      cure "the end of the log:"
      log_end "$LOGS/$name.log"
    fi
    [ "$LOGS" = "$SCRATCH" ] || cure "all of it: $LOGS/$name.log"
    way_back "$i"
  } >"$SCRATCH/$name.failure"
  cat "$SCRATCH/$name.failure"
}

# Nuclio has taken the old container away by the time that a new one fails; the image that it ran is still here.
way_back() { # index
  local image=${IMAGES[$1]} now
  now=$(docker inspect -f '{{.Id}}' "$(container_of "${NAMES[$1]}")" 2>/dev/null)
  if [ -z "${was_image:-}" ] || [ "$now" = "$was" ] || ! docker image inspect "$was_image" >/dev/null 2>&1; then return; fi
  if [ "$(docker image inspect -f '{{.Id}}' "$image" 2>/dev/null)" = "$was_image" ]; then return; fi
  cure "back to what ran before: docker tag $was_image $image && ./$SCRIPT --no-build $(quoted "${DIRS[$1]}")"
}

# give_up INDEX ID: the run was interrupted. A function that was there before goes on in its old container.
give_up() {
  local name=${NAMES[$1]}
  [ -z "${nuctl_pid:-}" ] || kill -TERM "$nuctl_pid" 2>/dev/null
  CAUSE='interrupted'
  if [ -z "$2" ] && [ -n "${nuctl_pid:-}" ]; then
    nuctl delete function "$name" --force >>"$LOGS/$name.log" 2>&1
    say_step "$1" "interrupted; removed"
  fi
  exit 143
}

summary() {
  local i name state seconds found cause failed=0 size rows
  [ -z "$DRY_RUN" ] || return 0
  heading "Summary"
  rows=$(printf '%s\t' FUNCTION KIND PORT STATE 'FIRST INFERENCE' 'IMAGE')
  for i in "${!NAMES[@]}"; do
    name=${NAMES[i]} state=failed seconds='' found='' cause=''
    [ ! -f "$SCRATCH/$name.result" ] || { IFS= read -r state; IFS= read -r seconds; IFS= read -r found; IFS= read -r cause; } <"$SCRATCH/$name.result"
    size=$(docker image inspect -f '{{.Size}}' "${REGISTRY:+$REGISTRY/}${IMAGES[i]}" 2>/dev/null)
    [ "$state" = ready ] || failed=$((failed + 1))
    rows+=$'\n'$(printf '%s\t' "$name" "${KINDS[i]}" "${PORTS[i]:--}" "$state" \
      "$([ "$state" = ready ] && echo "${seconds:+$(printf '%.2f' "$seconds") s, }${found:-not tried}" || echo "${cause:0:60}")" \
      "$([ -n "$size" ] && human_size "$size" || echo -)")
  done
  table <<<"$rows"
  if [ "$failed" -gt 0 ]; then
    printf '\n%d of %d failed: see above for the cause and the cure of each\n' "$failed" "${#NAMES[@]}"
    exit 1
  fi
}

# Columns as wide as their widest cell.
table() {
  awk -F '\t' '
    { for (i = 1; i < NF; i++) { cells[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) } columns = NF - 1 }
    END { for (r = 1; r <= NR; r++) { line = " "; for (i = 1; i <= columns; i++) line = line sprintf(" %-" width[i] "s ", cells[r, i]); sub(/ +$/, "", line); print line } }
  '
}
