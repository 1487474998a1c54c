
newline='
'

# keep FILE: lets undo put the file back as it is now, or remove it if it does not exist.
keep() {
  copies=$((copies + 1))
  eval "kept_$copies=\$1"
  if [ -e "$1" ]; then
    mkdir -p "$state/undo" && cp -p "$1" "$state/undo/$copies" || return 1
  fi
  later put_back "$copies"
}

put_back() {
  kept=''
  eval "kept=\$kept_$1"
  if [ -e "$state/undo/$1" ]; then
    cp -p "$state/undo/$1" "$kept.mac2ip" && mv -f "$kept.mac2ip" "$kept"
  else
    rm -f "$kept"
  fi
}

# clear_copies: removes the files of `keep`, and the directory if it is empty.
clear_copies() {
  [ "$dry" = yes ] || rm -rf "$state/undo"
  rmdir "$state" 2>/dev/null
  return 0
}

# write FILE MODE TEXT: replaces the file as a whole if its text differs. With the mode `same`, an old
# file keeps its mode and owner. If it fails, nothing has changed and $said is the reason.
write() {
  [ "$(cat "$1" 2>/dev/null && echo .)" != "$3$newline." ] || return 0
#:changed   changed=yes
  if [ "$dry" = yes ]; then
    printf 'would write %s:\n%s\n' "$1" "$3"
    return
  fi
  said=$({ mkdir -p "${1%/*}" && like "$1" "$2" "$1.mac2ip" && printf '%s\n' "$3" >"$1.mac2ip"; } 2>&1) &&
    keep "$1" 2>/dev/null && said=$(mv -f "$1.mac2ip" "$1" 2>&1) && return
  rm -f "$1.mac2ip" 2>/dev/null
  return 1
}

# like FILE MODE NEW: makes the empty file NEW.
like() {
  if [ "$2" = same ] && [ -e "$1" ]; then
    cp -p "$1" "$3"
  else
    (umask 077 && : >"$3") && chmod "$([ "$2" = same ] && echo 644 || echo "$2")" "$3"
  fi
}

# put FILE MODE TEXT: writes the file. If that fails, the script ends.
put() { write "$@" || fail 1 "$1 cannot be written: $said"; }
