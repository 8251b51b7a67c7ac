# shellcheck shell=bash
# What the scripts print, and how they run the commands that change something.

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  BOLD=$'\033[1m' RED=$'\033[31m' GREEN=$'\033[32m' YELLOW=$'\033[33m' PLAIN=$'\033[0m'
else
  BOLD='' RED='' GREEN='' YELLOW='' PLAIN=''
fi

heading() { printf '\n%s%s%s\n' "$BOLD" "$1" "$PLAIN"; }
good() { printf '  %sok%s      %s\n' "$GREEN" "$PLAIN" "$1"; }
note() { printf '  %snote%s    %s\n' "$YELLOW" "$PLAIN" "$1"; }
cure() { printf '          %s\n' "$1"; }

# bad CAUSE [CURE]: a problem that ends the run, together with the others found at the same time.
PROBLEMS=0
bad() {
  printf '  %sMISSING%s %s\n' "$RED" "$PLAIN" "$1"
  [ -z "${2:-}" ] || cure "$2"
  PROBLEMS=$((PROBLEMS + 1))
}

# die MESSAGE [CURE]: ends the script; for wrong arguments (exit 2) and for what nothing can follow.
die() {
  printf '%s: %s\n' "$SCRIPT" "$1" >&2
  [ -z "${2:-}" ] || printf '  %s\n' "$2" >&2
  exit "${STATUS:-2}"
}

# The words of a command as one could paste them into a shell.
quoted() {
  local word line=''
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_@%+=:,./-]+$ ]]; then
      line+="$word "
    else
      line+="'${word//\'/\'\\\'\'}' "
    fi
  done
  printf '%s' "${line% }"
}

# run COMMAND...: runs it, or with --dry-run prints it. Every command that changes something goes through here.
run() {
  if [ -n "$DRY_RUN" ]; then
    printf '+ %s\n' "$(quoted "$@")"
  else
    "$@"
  fi
}

human_size() { # bytes -> 812 MB, 1.4 GB
  awk -v b="${1:-0}" 'BEGIN { if (b >= 1e9) printf "%.1f GB", b / 1e9; else printf "%.0f MB", b / 1e6 }'
}
