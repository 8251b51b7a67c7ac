# shellcheck shell=bash disable=SC2034 # run.sh's other parts read what is set here
# What must be there before anything is built: each missing thing is named with its remedy, all of them at once.

OLDEST_NUCTL=1.13 # docs/deploy.md says what was read and run of which version
NEWEST_NUCTL=1.17
USUAL_NUCLIO=1.15.9 # what CVAT 2.54 ships
CVAT_NETWORK=cvat_cvat # of CVAT's docker-compose.yml
CVAT_STORE=cvat_redis_ondisk

NUCTL=${NUCTL:-} NUCTL_VERSION='' DASHBOARD_CONTAINER='' DASHBOARD_VERSION='' DOCKER_ADDRESS=127.0.0.1

preflight() {
  heading "Checking"
  find_docker_and_nuctl aloud
  if [ -n "$DOCKER_IS_THERE" ]; then
    check_builder
    [ "$PLATFORM" = kube ] || check_dashboard_and_network
    find_store
    check_disk
    [ "$DEVICE" = cpu ] || [ "$PLATFORM" = kube ] || check_gpu
  fi
  [ "$PLATFORM" = local ] || check_cluster
  command -v curl >/dev/null || bad "curl is not installed" "sudo apt-get install curl"
  [ -z "$WEIGHTS" ] || check_weights_folder
  [ "$PROBLEMS" = 0 ] && return
  if [ -n "$DRY_RUN" ]; then
    note "dry run: going on all the same"
    PROBLEMS=0
    return
  fi
  STATUS=1 die "$PROBLEMS thing$([ "$PROBLEMS" = 1 ] || echo s) missing, see above; nothing was changed"
}

# find_docker_and_nuctl aloud|quiet: with `quiet` it says only what is missing, and ends the script then.
find_docker_and_nuctl() {
  local quiet='' error version
  [ "$1" = aloud ] || quiet=yes
  DOCKER_IS_THERE=''
  if ! command -v docker >/dev/null; then
    bad "docker is not installed" "https://docs.docker.com/engine/install/ (CVAT itself needs it too)"
  elif version=$(docker version --format '{{.Server.Version}}' 2>"$SCRATCH/docker.log") && [ -n "$version" ]; then
    DOCKER_IS_THERE=yes
    DOCKER_ADDRESS=$(docker_address)
    [ -n "$quiet" ] || good "Docker $version"
  else
    error=$(<"$SCRATCH/docker.log")
    case $error in
      *"ermission denied"*) bad "docker is there, but ${USER:-this user} may not use it" "sudo usermod -aG docker ${USER:-\$USER}, then log in again; or run this with sudo" ;;
      *"annot connect"* | *"s the docker daemon running"*) bad "the Docker daemon does not answer" "start it: sudo systemctl start docker, or Docker Desktop" ;;
      *) bad "docker does not answer: ${error##*$'\n'}" "docker version shows more" ;;
    esac
  fi
  [ -z "$DOCKER_IS_THERE" ] || [ "$PLATFORM" = kube ] || find_dashboard
  find_nuctl "$quiet"
  if [ -n "$quiet" ] && [ "$PROBLEMS" -gt 0 ] && [ -z "$DRY_RUN" ]; then exit 1; fi
}

# Where the ports of containers are: this machine, or the one that DOCKER_HOST names.
docker_address() {
  case ${DOCKER_HOST:-} in
    tcp://* | ssh://*) sed -E 's#^[a-z]+://([^@/]*@)?([^:/]+).*#\2#' <<<"$DOCKER_HOST" ;;
    *) echo 127.0.0.1 ;;
  esac
}

find_dashboard() {
  local name image
  while IFS='|' read -r name image; do
    case $image in
      */dashboard:* | dashboard:*)
        DASHBOARD_CONTAINER=$name
        DASHBOARD_VERSION=$(sed -nE 's/.*:([0-9]+\.[0-9]+\.[0-9]+).*/\1/p' <<<"$image")
        break
        ;;
    esac
  done < <(docker ps --format '{{.Names}}|{{.Image}}' 2>/dev/null | grep nuclio)
}

find_nuctl() {
  local quiet=$1 wanted=${DASHBOARD_VERSION:-$USUAL_NUCLIO}
  [ -n "$NUCTL" ] || NUCTL=$(type -P nuctl) || NUCTL=''
  if [ -z "$NUCTL" ] || ! NUCTL_VERSION=$("$NUCTL" version 2>/dev/null | sed -nE 's/.*Label: ([0-9]+\.[0-9]+\.[0-9]+).*/\1/p') || [ -z "$NUCTL_VERSION" ]; then
    bad "nuctl $([ -n "$NUCTL" ] && echo "($NUCTL) does not run" || echo "is not installed")" "$(nuctl_download "$wanted")"
    NUCTL=${NUCTL:-nuctl}
    return
  fi
  case $NUCTL in /*) ;; *) NUCTL=$(cd "$(dirname "$NUCTL")" && pwd -P)/$(basename "$NUCTL") ;; esac
  if older "$NUCTL_VERSION" "$OLDEST_NUCTL"; then
    bad "nuctl $NUCTL_VERSION is too old: $OLDEST_NUCTL or newer is needed" "$(nuctl_download "$wanted")"
  elif [ -z "$quiet" ]; then
    good "nuctl $NUCTL_VERSION"
    if older "$NEWEST_NUCTL" "${NUCTL_VERSION%.*}"; then
      note "nuctl $NUCTL_VERSION is newer than the versions that these scripts know of ($OLDEST_NUCTL to $NEWEST_NUCTL)"
    fi
    if [ -n "$DASHBOARD_VERSION" ] && [ "$DASHBOARD_VERSION" != "$NUCTL_VERSION" ]; then
      note "Nuclio's dashboard is $DASHBOARD_VERSION: a nuctl of the same version is safer"
      cure "$(nuctl_download "$DASHBOARD_VERSION")"
    fi
  fi
}

nuctl_download() { # version -> the command for this platform
  local system architecture
  system=$(uname -s | tr '[:upper:]' '[:lower:]')
  case $(uname -m) in aarch64 | arm64) architecture=arm64 ;; *) architecture=amd64 ;; esac
  printf 'sudo curl -fL -o /usr/local/bin/nuctl https://github.com/nuclio/nuclio/releases/download/%s/nuctl-%s-%s-%s && sudo chmod +x /usr/local/bin/nuctl' \
    "$1" "$1" "$system" "$architecture"
}

older() { # 1.9.2 is older than 1.13
  awk -v a="$1" -v b="$2" 'BEGIN {
    split(a, x, "."); split(b, y, ".")
    for (i = 1; i <= 3; i++) if (x[i] + 0 != y[i] + 0) exit !(x[i] + 0 < y[i] + 0)
    exit 1
  }'
}

# A buildx builder in a container can't see the images of this daemon, so "FROM cvat.onnx.base" would fail there.
check_builder() {
  local driver
  driver=$(docker buildx inspect 2>/dev/null | sed -n 's/^Driver: *//p')
  if [ -n "$driver" ] && [ "$driver" != docker ]; then
    BUILDX_BUILDER=$(docker context show 2>/dev/null || echo default)
    export BUILDX_BUILDER
    note "your buildx builder ($driver) can't see local images: building with the daemon's own ($BUILDX_BUILDER)"
  fi
}

check_dashboard_and_network() {
  local found=''
  if [ -n "$DASHBOARD_CONTAINER" ]; then
    [ -n "$DASHBOARD" ] || DASHBOARD=$(dashboard_address)
    # Nuclio's dashboard reaches a function in its own network only; so does CVAT in dashboard mode.
    found=$(docker inspect -f '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}' "$DASHBOARD_CONTAINER" 2>/dev/null)
    found=${found%% *}
    case $found in bridge | host | none) found='' ;; esac
  fi
  DASHBOARD=${DASHBOARD:-http://localhost:8070}
  if curl -fsS -m 5 -o /dev/null "$DASHBOARD/api/versions" 2>/dev/null; then
    good "Nuclio's dashboard${DASHBOARD_VERSION:+ $DASHBOARD_VERSION} at $DASHBOARD"
  elif [ -n "$DASHBOARD_CONTAINER" ]; then
    note "Nuclio's dashboard runs ($DASHBOARD_CONTAINER), but can't be reached from here ($DASHBOARD): functions are tried on their ports only"
    DASHBOARD=''
  else
    note "no dashboard of Nuclio runs here: CVAT finds no functions without one"
    cure "docker compose -f $ROOT/compose.yaml up -d, beside a running CVAT; or CVAT's own components/serverless"
    DASHBOARD=''
  fi
  if [ -n "$NETWORK" ]; then
    docker network inspect "$NETWORK" >/dev/null 2>&1 || bad "there is no Docker network $NETWORK" "docker network ls shows those there are"
    return
  fi
  NETWORK=${found:-$CVAT_NETWORK}
  if docker network inspect "$NETWORK" >/dev/null 2>&1; then
    good "network $NETWORK"
  else
    NETWORK=''
    found=$(docker network ls --filter label=com.docker.compose.network=cvat --format '{{.Name}}' 2>/dev/null | head -n 1)
    if [ -n "$found" ]; then
      NETWORK=$found
      good "network $NETWORK"
    else
      note "there is no network $CVAT_NETWORK: the functions get ports on this machine only"
      cure "start CVAT first, or name its network: --network NAME"
    fi
  fi
}

# The address of the dashboard's container: its published port, or, where it has none, its own address.
dashboard_address() {
  local published address
  published=$(docker port "$DASHBOARD_CONTAINER" 8070/tcp 2>/dev/null | head -n 1)
  if [ -n "$published" ]; then
    echo "http://$DOCKER_ADDRESS:${published##*:}"
  else
    address=$(docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' "$DASHBOARD_CONTAINER" 2>/dev/null)
    echo "http://${address%% *}:8070"
  fi
}

check_disk() {
  local folder free need=5
  [ "$DEVICE" = cpu ] || need=20
  folder=$(docker info --format '{{.DockerRootDir}}' 2>/dev/null)
  # Docker Desktop keeps its images in a machine of its own: nothing to see from here.
  [ -n "$folder" ] && [ -d "$folder" ] || return 0
  free=$(df -Pk "$folder" 2>/dev/null | awk 'NR == 2 { printf "%d", $4 / 1e6 }')
  [ -n "$free" ] || return 0
  if [ "$free" -lt 2 ]; then
    bad "the disk of Docker ($folder) has $free GB left: images of functions take $need GB and more" "docker system df shows what takes the room; docker system prune frees what is unused"
  elif [ "$free" -lt "$need" ]; then
    note "the disk of Docker ($folder) has $free GB left; the whole collection takes $need GB and more"
  else
    good "disk: $free GB free in $folder"
  fi
}

check_gpu() {
  local image=$PYTHON_IMAGE gpus
  [ -z "$BUNDLE" ] || image=$(bundle_image)
  if gpus=$(docker run --rm --gpus all --entrypoint nvidia-smi "$image" -L 2>"$SCRATCH/gpu.log"); then
    good "GPU: $(grep -c '^GPU' <<<"$gpus") ($(sed -nE '1s/^GPU [0-9]+: ([^(]*) \(.*/\1/p' <<<"$gpus"))"
    return
  fi
  case $(<"$SCRATCH/gpu.log") in
    *"could not select device driver"* | *"unknown runtime"* | *"CDI device"*)
      bad "Docker can't give containers a GPU: the NVIDIA container toolkit is not set up" \
        "install nvidia-container-toolkit (docs.nvidia.com/datacenter/cloud-native), then: sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
      ;;
    *nvml* | *"driver"* | *"nvidia-container-cli"*)
      bad "the NVIDIA driver of this machine does not answer: $(last_words "$SCRATCH/gpu.log")" "nvidia-smi on this machine shows whether it works; without a GPU: ./deploy_cpu.sh"
      ;;
    *) bad "a container with a GPU does not start: $(last_words "$SCRATCH/gpu.log")" "docker run --rm --gpus all $image nvidia-smi shows more" ;;
  esac
}

check_cluster() {
  DASHBOARD=${DASHBOARD:-http://localhost:8070}
  if [ -n "$NUCTL_VERSION" ] && ! (cd "$SCRATCH" && "$NUCTL" get projects --platform kube --namespace "$NAMESPACE") >"$SCRATCH/cluster.log" 2>&1; then
    bad "Nuclio in the cluster does not answer nuctl: $(last_words "$SCRATCH/cluster.log")" "kubectl -n $NAMESPACE get pods shows whether it runs; kubectl config current-context which cluster is meant"
  fi
  if curl -fsS -m 5 -o /dev/null "$DASHBOARD/api/versions" 2>/dev/null; then
    good "Nuclio's dashboard at $DASHBOARD"
  elif [ -n "$VERIFY" ]; then
    bad "Nuclio's dashboard can't be reached at $DASHBOARD: the functions are tried through it" \
      "kubectl -n $NAMESPACE port-forward service/nuclio-dashboard 8070:8070 in another terminal; or --dashboard URL; or --no-verify"
  fi
}

# The functions run as another user than the one who put the weights there.
check_weights_folder() {
  local hidden
  hidden=$(find "$WEIGHTS" -not -perm -o=r -print 2>/dev/null | head -n 1)
  [ -z "$hidden" ] || bad "the functions (user $RUN_AS) can't read $hidden" "chmod -R o+rX $(quoted "$WEIGHTS")"
  case $WEIGHTS in *:*) bad "nuctl can't mount a folder with a colon in its name: $WEIGHTS" "rename it" ;; esac
}
