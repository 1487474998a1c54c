
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
