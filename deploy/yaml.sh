# shellcheck shell=bash
# The few fields of a function.yaml that a deployment needs, read with awk: there may be no Python on the host.
# Block style, as functions are written: maps, lists of maps, plain and quoted scalars; text blocks (|, >) are left out.

# yaml_fields FILE: one line a scalar, PATH <tab> p|q <tab> VALUE; q when the value stood in quotes. Lists count: env[0].name
yaml_fields() {
  awk '
    function unquote(text) {
      quote = substr(text, 1, 1)
      if (quote == "\"" || quote == "\047") {
        kind = "q"
        rest = substr(text, 2)
        position = index(rest, quote)
        return position ? substr(rest, 1, position - 1) : rest
      }
      kind = "p"
      sub(/[ \t]+#.*$/, "", text)
      sub(/[ \t]+$/, "", text)
      return text
    }
    function place(indent, key,   name) {
      while (depth > 0 && indents[depth] >= indent) depth--
      name = depth > 0 ? names[depth] : ""
      if (key ~ /^\[/) name = name key
      else name = name (name == "" ? "" : ".") key
      depth++
      indents[depth] = indent
      names[depth] = name
      return name
    }
    { sub(/\r$/, ""); gsub(/\t/, "  ") }
    in_block && (/^ *$/ || match($0, /^ */) && RLENGTH > block_indent) { next }
    { in_block = 0 }
    /^ *(#|$)/ || /^(---|\.\.\.)/ { next }
    {
      match($0, /^ */)
      indent = RLENGTH
      line = substr($0, indent + 1)
      while (line ~ /^-( |$)/) {
        while (depth > 0 && (indents[depth] > indent || (indents[depth] == indent && names[depth] ~ /\]$/))) depth--
        parent = depth > 0 ? names[depth] : ""
        # A list may stand at the indent of its key.
        item = parent "[" (counts[parent] + 0) "]"
        counts[parent]++
        depth++
        indents[depth] = indent + 0.5
        names[depth] = item
        sub(/^- */, "", line)
        indent += 2
      }
      if (line == "") next
      if (line !~ /^("[^"]*"|\047[^\047]*\047|[^:"\047]+):( |$)/) {
        if (depth > 0) { value = unquote(line); print names[depth] "\t" kind "\t" value }
        next
      }
      key = line
      sub(/:( .*)?$/, "", key)
      if (line ~ /^["\047]/) { quote = substr(line, 1, 1); rest = substr(line, 2); key = substr(rest, 1, index(rest, quote) - 1); sub(/^("[^"]*"|\047[^\047]*\047):/, "", line) }
      else { key = line; sub(/:.*$/, "", key); sub(/^[^:]*:/, "", line) }
      sub(/^ +/, "", line)
      path = place(indent, key)
      if (line == "" || line ~ /^#/) next
      if (line ~ /^[|>][-+0-9]*( *#.*)?$/) { in_block = 1; block_indent = indent; next }
      value = unquote(line)
      print path "\t" kind "\t" value
    }
  ' "$1"
}

# yaml_value FIELDS PATH: the value at a path, nothing when it isn't there. FIELDS is the output of yaml_fields.
yaml_value() {
  awk -F '\t' -v path="$2" '$1 == path { print substr($0, length($1) + length($2) + 3); exit }' <<<"$1"
}

# yaml_env FIELDS NAME: the default of an environment variable of the function.
yaml_env() {
  awk -F '\t' -v name="$2" '
    $1 ~ /^spec\.env\[[0-9]+\]\.name$/ && $3 == name { entry = substr($1, 1, length($1) - 5) }
    entry != "" && $1 == entry ".value" { print substr($0, length($1) + length($2) + 3); exit }
  ' <<<"$1"
}

# http_trigger FIELDS: the name of the HTTP trigger, nothing when there is none.
http_trigger() {
  awk -F '\t' '$1 ~ /^spec\.triggers\.[^.]+\.kind$/ && $3 == "http" { split($1, part, "."); print part[3]; exit }' <<<"$1"
}

# trigger_json FIELDS PORT WORKERS: the HTTP trigger as JSON for `nuctl --triggers`, which replaces the whole trigger, with
# its host port (none when PORT is empty) and number of workers (the file's when WORKERS is empty). Fails on what a line
# of JSON made here can't hold: lists and deeper maps.
trigger_json() {
  local name
  name=$(http_trigger "$1")
  awk -F '\t' -v name="$name" -v port="$2" -v workers="$3" '
    function scalar(kind, value) {
      if (kind == "p" && value ~ /^(-?[0-9]+(\.[0-9]+)?|true|false|null)$/) return value
      gsub(/\\/, "\\\\", value)
      gsub(/"/, "\\\"", value)
      return "\"" value "\""
    }
    BEGIN { prefix = "spec.triggers." name "."; kind_given = 0 }
    name != "" && index($1, prefix) == 1 {
      key = substr($1, length(prefix) + 1)
      text = scalar($2, substr($0, length($1) + length($2) + 3))
      if (key ~ /^attributes\.[^.\[]+$/) {
        sub(/^attributes\./, "", key)
        if (key == "port" && port != "") next
        attributes = attributes (attributes == "" ? "" : ",") "\"" key "\":" text
      } else if (key ~ /^[^.\[]+$/) {
        if (key ~ /^(numWorkers|maxWorkers)$/ && workers != "") next
        top = top ",\"" key "\":" text
      } else {
        failed = 1
        exit 1
      }
    }
    END {
      if (failed) exit 1
      if (name == "") { name = "http"; top = ",\"kind\":\"http\""; attributes = "\"maxRequestBodySize\":33554432" }
      if (workers != "") top = top ",\"numWorkers\":" workers
      if (port != "") attributes = attributes (attributes == "" ? "" : ",") "\"port\":" port
      printf "{\"%s\":{%s,\"attributes\":{%s}}}", name, substr(top, 2), attributes
    }
  ' <<<"$1"
}

# without_build FILE: the function.yaml less spec.build. With an image name there, nuctl builds even when it is given an
# image to run (--run-image), and what it builds then holds no code.
without_build() {
  awk '
    /^[^ #]/ { in_spec = /^spec:/; in_build = 0 }
    in_spec && /^  [^ #]/ { in_build = /^  build:/ }
    !in_build
  ' "$1"
}
