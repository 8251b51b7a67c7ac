# shellcheck shell=bash disable=SC2034 # run.sh's other parts read what is set here
# The options of deploy_cpu.sh and deploy_gpu.sh.

usage() {
  local other=GPU
  [ "$DEVICE" = cpu ] || other=CPU
  cat <<TEXT
$SCRIPT [options] [functions...]

Builds functions, deploys them into Nuclio for CVAT, and sends each a sample image by the routes that CVAT uses. Ends
with a table of what is deployed, and for each function that failed with the cause, the cure and the end of its log.

  functions        directories with a function.yaml, or folders that hold some; also below serverless/, such as
                   onnx/rapidocr. Default: the whole collection. Functions of your own go the same way.

What to do
  --list           only show what is deployed
  --remove         remove the functions named, or those of the collection
  --bundle FILE    build them and pack a bundle for --offline, deploying nothing ('make bundle')
  --dry-run        print every command that would change something, and run none
  -h, --help       this text

How
  --jobs N         functions to build and deploy at the same time (default: 1)
  --env NAME=VALUE an option of the functions, such as VARIANT=yolo11s; may be given several times
  --weights DIR    mount weights instead of putting them into the images: DIR/<function's name>/ holds the function's
                   files; with one function, DIR itself may
  --no-build       deploy from the images that are here: seconds a function, as after a restart of Docker
  --offline FILE   deploy from a bundle made by 'make bundle'; no network is used
  --network NAME   the Docker network of CVAT (default: the one that Nuclio's dashboard is in, or cvat_cvat)
  --dashboard URL  Nuclio's dashboard (default: found by its container, or http://localhost:8070)
  --first-port N   the first of the 1000 host ports that functions get (default: 28000). A function keeps its port.
  --user UID:GID   who the functions run as (default: 1000:1000)
  --python IMAGE   the image that base images start from (default: python:3.11-slim)
  --no-verify      deploy without sending the sample image

Kubernetes
  --platform kube  deploy into the cluster of the current kubectl context
  --namespace NS   of Nuclio there (default: nuclio)
  --registry R     where images are pushed to, and the cluster pulls from (needed)
  --run-registry R where the cluster pulls from, if it sees the registry under another name
  --min-replicas N, --max-replicas N, --target-cpu PERCENT
                   autoscaling
  --node-selector KEY=VALUE
                   may be given several times
TEXT
  if [ "$DEVICE" = gpu ]; then
    cat <<TEXT
  --gpus N         GPUs for each replica (default: 1; on Docker a function sees all of them)
TEXT
  fi
  cat <<TEXT

From the environment: NUCTL (the nuctl to use), CVAT_FUNCTIONS_REDIS_HOST and _PORT (default: CVAT's own store, where
it runs), PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_TRUSTED_HOST (for building base images).
Logs: out/deploy/<function>.log. For the $other: deploy_${other,,}.sh. More: docs/deploy.md, docs/scaling.md.
TEXT
}

parse_options() {
  NO_BUILD='' BUNDLE_OUT='' ACTION=deploy DRY_RUN='' JOBS=1 WEIGHTS='' BUNDLE='' NETWORK='' DASHBOARD='' FIRST_PORT=28000 RUN_AS=1000:1000
  PYTHON_IMAGE=python:3.11-slim VERIFY=yes PLATFORM=local NAMESPACE=nuclio REGISTRY='' RUN_REGISTRY='' MIN_REPLICAS=''
  MAX_REPLICAS='' TARGET_CPU='' GPUS=1
  ENVIRONMENT=() NODE_SELECTORS=() ARGUMENTS=()
  local option value
  while [ $# -gt 0 ]; do
    option=$1
    case $option in
      -h | --help) usage; exit 0 ;;
      --list) ACTION=list; shift; continue ;;
      --remove) ACTION=remove; shift; continue ;;
      --dry-run) DRY_RUN=yes; shift; continue ;;
      --no-verify) VERIFY=''; shift; continue ;;
      --no-build) NO_BUILD=yes; shift; continue ;;
      --) shift; ARGUMENTS+=("$@"); break ;;
      --*=*) value=${option#*=}; option=${option%%=*}; shift ;;
      --*)
        [ $# -gt 1 ] || die "$option: no such option, or its value is missing" "$SCRIPT --help lists the options"
        value=$2
        shift 2
        ;;
      -*) die "$option: there is no such option" "$SCRIPT --help lists them" ;;
      *) ARGUMENTS+=("$option"); shift; continue ;;
    esac
    case $option in
      --jobs) whole_number "$option" "$value" 1 64; JOBS=$value ;;
      --env) [[ $value =~ ^[A-Za-z_][A-Za-z0-9_]*=[^\']*$ ]] || die "--env: expected NAME=VALUE without a single quote, got $value"; ENVIRONMENT+=("$value") ;;
      --weights) [ -d "$value" ] || die "--weights: there is no folder $value"; WEIGHTS=$(cd "$value" && pwd -P) ;;
      --offline) [ -f "$value" ] || die "--offline: there is no file $value" "make it on a connected machine: make bundle"; BUNDLE=$value ;;
      --bundle)
        [ -d "$(dirname "$value")" ] || die "--bundle: there is no folder $(dirname "$value")"
        BUNDLE_OUT=$(cd "$(dirname "$value")" && pwd -P)/$(basename "$value")
        ACTION=bundle
        ;;
      --network) NETWORK=$value ;;
      --dashboard) DASHBOARD=${value%/} ;;
      --first-port) whole_number "$option" "$value" 1024 64535; FIRST_PORT=$value ;;
      --user) [[ $value =~ ^[0-9]+:[0-9]+$ ]] || die "--user: expected UID:GID in numbers, got $value"; RUN_AS=$value ;;
      --python) PYTHON_IMAGE=$value ;;
      --platform) case $value in local | kube) PLATFORM=$value ;; *) die "--platform: expected local or kube, got $value" ;; esac ;;
      --namespace) NAMESPACE=$value ;;
      --registry) REGISTRY=${value%/} ;;
      --run-registry) RUN_REGISTRY=${value%/} ;;
      --min-replicas) whole_number "$option" "$value" 0 10000; MIN_REPLICAS=$value ;;
      --max-replicas) whole_number "$option" "$value" 1 10000; MAX_REPLICAS=$value ;;
      --target-cpu) whole_number "$option" "$value" 1 100; TARGET_CPU=$value ;;
      --node-selector) [[ $value == ?*=?* ]] || die "--node-selector: expected KEY=VALUE, got $value"; NODE_SELECTORS+=("$value") ;;
      --gpus) whole_number "$option" "$value" 1 64; GPUS=$value ;;
      *) die "$option: there is no such option" "$SCRIPT --help lists them" ;;
    esac
  done
  if [ "$PLATFORM" = kube ]; then
    [ "$ACTION" != deploy ] || [ -n "$REGISTRY" ] || die "--platform kube needs --registry: the cluster pulls its images from there"
    [ -z "$BUNDLE" ] || die "--offline is for Docker on this machine" "for a cluster: docker load the bundle's images, push them to its registry"
  else
    local option_for_kube
    for option_for_kube in "$REGISTRY$RUN_REGISTRY" "$MIN_REPLICAS$MAX_REPLICAS$TARGET_CPU" "${NODE_SELECTORS[*]-}"; do
      [ -z "$option_for_kube" ] || die "registries, replicas and node selectors are for --platform kube"
    done
  fi
  if [ -n "$MIN_REPLICAS" ] && [ -n "$MAX_REPLICAS" ] && [ "$MIN_REPLICAS" -gt "$MAX_REPLICAS" ]; then
    die "--min-replicas $MIN_REPLICAS is more than --max-replicas $MAX_REPLICAS"
  fi
  if [ "$ACTION" = bundle ]; then
    if [ -n "$BUNDLE$WEIGHTS$NO_BUILD" ] || [ "$PLATFORM" = kube ]; then die "--bundle goes with none of --offline, --weights, --no-build and --platform kube"; fi
  fi
  [ -z "$WEIGHTS" ] || [ -z "$BUNDLE" ] || die "--weights and --offline: a bundle's images hold their weights; give one of the two"
}

whole_number() { # option value low high
  if ! [[ $2 =~ ^[0-9]{1,6}$ ]] || [ "$2" -lt "$3" ] || [ "$2" -gt "$4" ]; then
    die "$1: expected a whole number from $3 to $4, got $2"
  fi
}
