
# -- what the host says -------------------------------------------------------------------------------------------

# A channel carries lines key=value: mac, address (with prefix length), gateway, dns, search, hostname, data.KEY.

fw_cfg() {
  file=/sys/firmware/qemu_fw_cfg/by_name/opt/org.macbind/identity/raw
  [ -e /sys/firmware/qemu_fw_cfg ] || modprobe -q qemu_fw_cfg 2>/dev/null
  [ ! -r "$file" ] || cat "$file"
}

smbios() {
  [ -e /sys/firmware/dmi/entries ] || modprobe -q dmi-sysfs 2>/dev/null
  if [ -e /sys/firmware/dmi/entries ]; then
    set -- /sys/firmware/dmi/entries/11-*/raw
  else
    set -- /sys/firmware/dmi/tables/DMI # the whole table, which every kernel shows
  fi
  for file; do
    [ ! -r "$file" ] || oem_strings "$file"
  done | while read -r line; do
    case $line in macbind:*) printf '%s\n' "${line#macbind:}" ;; esac
  done
}

# oem_strings FILE: the strings of all structures of type 11 (octal 013) in a file of SMBIOS structures, a line each.
# A structure is its type, its length, so many bytes in all, then strings that end with a NUL, then one more NUL;
# two NULs if there are no strings.
oem_strings() {
  at=0 size=4 kind='' text='' nuls=0
  for byte in $(od -v -b "$1" 2>/dev/null); do
    case $byte in ???) ;; *) continue ;; esac # the offset at the beginning of a line
    if [ "$at" -lt "$size" ]; then
      case $at in
        0) kind=$byte ;;
        1)
          octal "$byte"
          [ "$size" -ge 4 ] || return 0
          ;;
      esac
      at=$((at + 1)) text='' nuls=0
    elif [ "$byte" != 000 ]; then
      text=$text\\0$byte nuls=0
    elif [ -n "$text" ]; then
      [ "$kind" != 013 ] || printf '%b\n' "$text"
      text='' nuls=1
    elif [ "$nuls" = 1 ]; then
      at=0 size=4
    else
      nuls=1
    fi
  done
}

# octal DIGITS: sets $size. A leading 0 does not say "octal" to every shell.
octal() {
  middle=${1#?}
  size=$((${1%??} * 64 + ${middle%?} * 8 + ${1#??}))
}

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

# identify: sets $told_by and the $told_... values from the first channel whose word can be taken, and $refusals, what
# is wrong with the others.
identify() {
  told_by='' told_mac='' told='' refusals=''
  for channel in $channels; do
    told=$("$channel")
    [ -n "$told" ] || continue
    refused=$(check) || {
      refusals="$refusals${refusals:+ }What $channel says is not used: $refused"
      continue
    }
    told_by=$channel
    take
    return 0
  done
  told=''
}

# take: sets the $told_... values from the lines in $told.
take() {
  told_mac='' told_address='' told_gateway='' told_dns='' told_search='' told_hostname=''
  set -f
  IFS=$newline
  for line in $told; do
    IFS=$plain_ifs
    case $line in
      mac=*) normal "${line#*=}" && told_mac=$mac ;;
      address=*) told_address=${line#*=} ;;
      gateway=*) told_gateway=${line#*=} ;;
      dns=*) told_dns=${line#*=} ;;
      search=*) told_search=${line#*=} ;;
      hostname=*) told_hostname=${line#*=} ;;
    esac
  done
  set +f
  IFS=$plain_ifs
}

# check: whether the lines in $told are about this machine and can be used; prints the reason if not.
check() {
  take
  [ -n "$told_mac" ] || { echo 'it names no MAC.' && return 1; }
  interface_of "$told_mac" || {
    echo "it is about $told_mac, which is no interface of this machine. Was the identity copied from another?"
    return 1
  }
  number "${told_address%/*}" || { echo "'$told_address' is no address." && return 1; }
  case ${told_address##*/} in
    [1-9] | [12][0-9] | 3[0-2]) ;;
    *) echo "'$told_address' has no prefix length." && return 1 ;;
  esac
  for one in $told_gateway $told_dns; do
    number "$one" || { echo "'$one' is no address." && return 1; }
  done
  case $told_gateway in *[!0-9.]*) echo "'$told_gateway' is no address." && return 1 ;; esac
  case $told_search in *[!A-Za-z0-9._-]*) echo "'$told_search' is no domain." && return 1 ;; esac
  case $told_hostname in *[!A-Za-z0-9-]* | -* | *-) echo "'$told_hostname' is no host name." && return 1 ;; esac
  [ "${#told_hostname}" -le 63 ] || { echo "'$told_hostname' is longer than a host name can be." && return 1; }
}
