
# Each manager has three functions: clear_X removes what is for NICs that are not in the plan, as this machine may be a
# copy of another; write_X writes for one NIC; tell_X has a manager that runs read its files.

# enabled SERVICE: whether systemd starts the service at boot, or has started it.
enabled() {
  command -v systemctl >/dev/null 2>&1 || return 1
  systemctl is-enabled --quiet "$1" 2>/dev/null || running "$1"
}

# persist_all: writes the manager's files for the whole plan.
persist_all() {
  later reread # after undo has put the files back
  clear_"$manager"
  order=0
#:changed   changed=no
  each persist
  [ -z "$hostname" ] || keep_name
  tell_"$manager"
}

persist() {
#:far   far=
#:far   [ -z "$gateway" ] || ! outside || far=yes
  write_"$manager"
  order=$((order + 100))
}

# withdraw: removes what an earlier run wrote. Otherwise the manager would give the machine the address of another.
withdraw() {
  plan=' '
  for manager in $managers; do clear_"$manager"; done
  [ "$begun" = : ] || reread
  begun=:
}

# reread: has every manager read its files again.
reread() {
  if command -v netplan >/dev/null 2>&1; then try netplan generate; fi
  ! running systemd-networkd || try networkctl reload
  ! running NetworkManager || try nmcli connection reload
}

# drop FILE: removes the file if it exists.
drop() {
  [ -e "$1" ] || return 0
  [ "$dry" = yes ] || keep "$1" 2>/dev/null || fail 1 "$1 cannot be copied for undo."
  run rm -f "$1"
}

# drop_others PREFIX SUFFIX: removes the files PREFIX-NIC-SUFFIX of NICs that are not in the plan.
drop_others() {
  for file in "$1"*"$2"; do
    nic=${file#"$1"}
    case $plan in
      *" ${nic%"$2"} "*) ;;
      *) drop "$file" ;;
    esac
  done
}

# keep_name: writes the host name for the next boots, also into Debian's line of /etc/hosts and Red Hat's old file.
keep_name() {
  put /etc/hostname same "$hostname"
  exchange /etc/hosts '127.0.1.1[[:space:]]*' "127.0.1.1	$hostname"
  exchange /etc/sysconfig/network 'HOSTNAME=*' "HOSTNAME=$hostname"
}

# exchange FILE PATTERN LINE: replaces the lines of the pattern.
exchange() {
  [ -f "$1" ] || return 0
  text='' found=no
  while IFS= read -r line || [ -n "$line" ]; do
    # shellcheck disable=SC2254
    case $line in $2) line=$3 found=yes ;; esac
    text=$text${text:+$newline}$line
  done <"$1"
  [ "$found" = no ] || put "$1" same "$text"
}
