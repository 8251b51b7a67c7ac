# shellcheck shell=bash disable=SC2034 # run.sh's other parts read what is set here
# From the logs of a failed deployment to one line that says the cause, and one that says the cure.

last_words() { # file -> its last line that says something, without colours
  sed -e 's/\x1b\[[0-9;]*m//g' -e 's/^[[:space:]]*//' "$1" 2>/dev/null | grep -vE '^$|^\.\.\.|^Call stack' | tail -n 1 | cut -c 1-300
}

# The line of `init_context`'s exception in a container's log: as `common` logs it, as Nuclio's wrapper logs it, or as
# Python prints it.
init_error() { # container log
  local text
  text=$(grep -m 1 -oE "The function can't start \{\"error\": \"([^\"\\\\]|\\\\.)*\"" "$1" | sed -E 's/^[^{]*\{"error": "(.*)"$/\1/')
  [ -n "$text" ] || text=$(grep -m 1 -oE 'exception while initializing", "with": \{"err": "([^"\\]|\\.)*"' "$1" | sed -E 's/.*"err": "(.*)"$/\1/')
  [ -n "$text" ] || text=$(grep -E '^([A-Za-z_][A-Za-z0-9_]*\.)*[A-Z][A-Za-z0-9_]*(Error|Exception|Exit)(: |$)' "$1" | tail -n 1)
  printf '%s' "$text" | sed -e 's/\\"/"/g' -e 's/\\n/ /g' -e 's/^StartupError: //' | cut -c 1-600
}

# explain NUCTL_LOG CONTAINER_LOG OOM: sets CAUSE and CURE. OOM: "true" when the kernel ended the container for memory.
explain() {
  local all error
  CAUSE='' CURE=''
  all=$(cat "$1" "$2" 2>/dev/null | sed 's/\x1b\[[0-9;]*m//g')
  error=$(init_error "$2")
  if [ "$3" = true ]; then
    CAUSE="out of memory: the kernel ended the function while it started"
    CURE="give Docker more memory, or take a smaller model (--env VARIANT=...) or fewer workers (numWorkers in function.yaml)"
  elif [ -n "$error" ]; then
    CAUSE=$error
    case $error in
      *"No module named"*) CURE="add the package to the function's requirements.txt, then deploy again" ;;
      *weights* | *MODEL_PATH*) CURE="mount them with --weights DIR, or let the build fetch them (network)" ;;
      *CUDA* | *cuda* | *GPU*) CURE="nvidia-smi on this machine shows the driver; without a GPU: ./deploy_cpu.sh" ;;
      *) CURE="an option of the function is set with --env NAME=VALUE, or in spec.env of its function.yaml" ;;
    esac
  else
    case $all in
      *"port is already allocated"* | *"address already in use"*)
        CAUSE="its port is taken: $(grep -oE '[^ ]*:[0-9]+ failed: port is already allocated|listen tcp[^"]*address already in use' <<<"$all" | head -n 1)"
        CURE="stop what uses it, or give the function another: attributes.port of the trigger in function.yaml, or --first-port"
        ;;
      *"no space left on device"*)
        CAUSE="the disk is full"
        CURE="docker system df shows what takes the room; docker system prune frees what is unused"
        ;;
      *"could not select device driver"* | *"nvidia-container-cli"*)
        CAUSE="Docker can't give the function a GPU: $(grep -oE 'could not select device driver[^\"]*|nvidia-container-cli: [^"]*' <<<"$all" | head -n 1)"
        CURE="set up the NVIDIA container toolkit, or deploy with ./deploy_cpu.sh"
        ;;
      *"No matching distribution found for"*)
        CAUSE="pip finds no $(grep -oE 'No matching distribution found for [^ "\\]+' <<<"$all" | head -n 1 | sed 's/.* for //') for this platform"
        CURE="the network, or PIP_INDEX_URL, may hide the registry; or requirements.txt names a version that isn't there"
        ;;
      *"emporary failure in name resolution"* | *"no such host"* | *"Network is unreachable"* | *"i/o timeout"* | *"TLS handshake timeout"* | *"onnection refused"*"pull"*)
        CAUSE="the network: $(grep -oE '[^"\\]*([Tt]emporary failure in name resolution|no such host|Network is unreachable|i/o timeout|TLS handshake timeout)' <<<"$all" | head -n 1 | cut -c 1-200)"
        CURE="behind a proxy: set HTTPS_PROXY for Docker; without a network: make bundle on a connected machine, then --offline FILE"
        ;;
      *"pull access denied"* | *"manifest unknown"* | *"manifest for"*"not found"*)
        CAUSE="an image can't be pulled: $(grep -oE '(pull access denied for|manifest for|manifest unknown:?) [^ ,"\\]+' <<<"$all" | head -n 1)"
        CURE="the base image of a function that is not of this collection must be built first, or be in a registry"
        ;;
      *"certificate"*"verify failed"* | *"x509: certificate"*)
        CAUSE="a certificate of the network is not trusted in the build"
        CURE="make a Python image with your company's certificate and pass it: --python IMAGE (docs/deploy.md)"
        ;;
      *"being provisioned"*)
        CAUSE="Nuclio is still deploying it, from an earlier or another run"
        CURE="wait for that run; if there is none: nuctl delete function NAME --force"
        ;;
      *"Killed"* | *"exit status 137"* | *"non-zero code: 137"*)
        CAUSE="out of memory while it was built or started"
        CURE="give Docker more memory, or deploy fewer functions at a time (--jobs 1)"
        ;;
      *"wasn't healthy in time"* | *"wasn't ready in time"*)
        CAUSE="it was not ready in time, and has not said why"
        CURE="a big model on a slow disk needs longer: raise readinessTimeoutSeconds in its function.yaml"
        ;;
      *)
        error=$(grep -E '^(ERROR: |error: |.*: error: )|(Error|Exception): ' <<<"$all" | tail -n 1 | sed 's/^[[:space:]]*//' | cut -c 1-300)
        CAUSE=${error:-$(last_words "$1")}
        CAUSE=${CAUSE:-"nuctl failed without a word"}
        ;;
    esac
  fi
}
