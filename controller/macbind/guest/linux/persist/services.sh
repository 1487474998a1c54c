
# try COMMAND...: runs a command and says so if it fails. The script goes on.
try() {
  attempt "$@" && return
  say "'$*' failed: $said"
  return 1
}

running() { command -v systemctl >/dev/null 2>&1 && systemctl is-active --quiet "$1" 2>/dev/null; }
