# shellcheck shell=bash
# A host port for each function that stays: over redeploys, and over reboots, after which Docker would draw a random one
# anew and CVAT's direct calls would fail. It follows from the function's name; the container's own port is its record.

assign_ports() {
  [ "$PLATFORM" = local ] || return 0
  local i fields fixed kept taken
  taken=" $(published_ports | tr '\n' ' ') "
  for i in "${!NAMES[@]}"; do
    fields=$(yaml_fields "${DIRS[i]}/function.yaml")
    fixed=$(yaml_value "$fields" "spec.triggers.$(http_trigger "$fields").attributes.port")
    kept=$(kept_port "${NAMES[i]}")
    if [ -n "$fixed" ]; then
      if [ "$fixed" != "$kept" ] && { [[ " $taken ${PORTS[*]-} " == *" $fixed "* ]] || listens "$fixed"; }; then
        STATUS=1 die "port $fixed, which the function.yaml of ${NAMES[i]} asks for, is taken" \
          "stop what uses it, change attributes.port there, or leave it out: then a free one is found"
      fi
      PORTS[i]=$fixed
    elif [ -n "$kept" ] && [[ " ${PORTS[*]-} " != *" $kept "* ]] && { container_runs "${NAMES[i]}" || ! listens "$kept"; }; then
      PORTS[i]=$kept
    else
      PORTS[i]=$(free_port "${NAMES[i]}" "$taken ${PORTS[*]-}") || STATUS=1 die "no free port from $FIRST_PORT to $((FIRST_PORT + 999))" "--first-port N takes another range"
      [ -z "$kept" ] || note "${NAMES[i]} moves from port $kept, which something else uses now, to ${PORTS[i]}"
    fi
  done
}

# The port that the function's container has been given, if a port was asked for at all (and not "any free one").
kept_port() { # name
  local port
  port=$(docker inspect -f '{{range index .HostConfig.PortBindings "8080/tcp"}}{{.HostPort}} {{end}}' "$(container_of "$1")" 2>/dev/null)
  port=${port%% *}
  [[ $port =~ ^[1-9][0-9]*$ ]] && printf '%s' "$port"
}

container_runs() { [ "$(docker inspect -f '{{.State.Running}}' "$(container_of "$1")" 2>/dev/null)" = true ]; }

# The ports of all containers, of those that are stopped too: they want theirs back.
published_ports() {
  local containers
  containers=$(docker ps --all --quiet 2>/dev/null)
  # shellcheck disable=SC2086 # one word for each container
  [ -z "$containers" ] || docker inspect -f '{{range $_, $all := .HostConfig.PortBindings}}{{range $all}}{{.HostPort}}{{"\n"}}{{end}}{{end}}' $containers 2>/dev/null | grep -E '^[0-9]+$'
}

free_port() { # name taken -> the first port, from the one that follows from the name, that nothing uses
  local start port step
  start=$(printf '%s' "$1" | cksum | awk '{ print $1 % 1000 }')
  for ((step = 0; step < 1000; step++)); do
    port=$((FIRST_PORT + (start + step) % 1000))
    if [[ " $2 " != *" $port "* ]] && ! listens "$port"; then
      printf '%s' "$port"
      return
    fi
  done
  return 1
}

listens() { # port: whether a program answers on it
  [ "$DOCKER_ADDRESS" = 127.0.0.1 ] && (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}
