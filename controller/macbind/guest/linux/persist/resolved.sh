
# At boot systemd-resolved may start later than this script, or may not be reachable yet. Then it reads a file.
resolve_by_systemd() {
  if [ -S /run/systemd/resolve/io.systemd.Resolve ] && command -v resolvectl >/dev/null 2>&1; then
    deaf=no
    each tell_resolved
    [ "$deaf" = yes ] || return 0
  fi
  changed=no
  write /run/systemd/resolved.conf.d/macbind.conf 644 "[Resolve]
DNS=$servers
Domains=$domains" || return 1
  [ "$changed" = no ] || ! running systemd-resolved || try systemctl --no-block restart systemd-resolved
}

tell_resolved() {
  [ -z "$servers" ] || try resolvectl dns "$interface" $servers || deaf=yes
  [ -z "$domains" ] || try resolvectl domain "$interface" $domains || deaf=yes
}

resolve_by_resolvconf() {
  set -- $plan
  if [ "$dry" = yes ]; then
    echo "would run: resolvconf -a $1.mac2ip"
  else
    said=$(resolv_lines | resolvconf -a "$1.mac2ip" 2>&1)
  fi
}
