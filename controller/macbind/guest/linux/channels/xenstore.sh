
xenstore() {
  command -v xenstore-read >/dev/null 2>&1 || return 0
  for key in mac address gateway dns search hostname; do
    value=$(node "$key") && printf '%s=%s\n' "$key" "$value"
  done
  below data data
}

# node PATH: what Xenstore has there. Without -R Xen's own tool doubles backslashes; tools of others may not know -R.
node() {
  xenstore-read -R "vm-data/macbind/$1" 2>/dev/null || xenstore-read "vm-data/macbind/$1" 2>/dev/null
}

# below KEY PATH: the lines of all keys below one. Dots in a key are levels in Xenstore, so a name may be no key itself
# but only the place of others; it has no value then.
below() (
  for name in $(xenstore-list "vm-data/macbind/$2" 2>/dev/null); do
    value=$(node "$2/$name") || continue
    inner=$(below "$1.$name" "$2/$name")
    [ -z "$value" ] && [ -n "$inner" ] || printf '%s=%s\n' "$1.$name" "$value"
    [ -z "$inner" ] || printf '%s\n' "$inner"
  done
)
