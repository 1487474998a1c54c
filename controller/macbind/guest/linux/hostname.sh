
# name_it: sets $hostname. It is empty if the machine keeps its name.
name_it() {
  hostname=
  [ "$naming" != keep ] || return 0
#:channels   hostname=$told_hostname
#:channels   [ -z "$hostname" ] || return 0
  case $naming in *%*) ;; *) return 0 ;; esac
  first
  IFS=.
  set -- $address
  IFS=$plain_ifs
  hostname=${naming%%%*}$1-$2-$3-$4${naming#*%}
}

# rename: gives the machine the name.
rename() {
  [ -n "$hostname" ] || return 0
  read -r old </proc/sys/kernel/hostname || fail 1 'The host name cannot be read: /proc is not mounted.'
  [ "$old" != "$hostname" ] || return 0
  tool=hostname
  command -v hostname >/dev/null 2>&1 || tool=write_name
  run "$tool" "$hostname"
  case $old in *[!A-Za-z0-9._-]*) ;; *) later "$tool" "$old" ;; esac
}

write_name() { echo "$1" >/proc/sys/kernel/hostname; }

# first: loads the first NIC of the plan.
first() {
  interface=${plan# }
  interface=${interface%% *}
  load
}
