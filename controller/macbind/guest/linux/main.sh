
# -- what was asked for -------------------------------------------------------------------------------------------

dry=no persist=none naming=auto probes=2 wait=0 channels='fw_cfg smbios xenstore' show=no
begun='' copies=0 changed=no manager=none

misused() {
  say "$*"
  usage >&2
  exit 2
}

announce() { say "NetworkManager configures $interface when it starts."; }

report() {
  printf 'mac2ip: %s %s %s/%s gateway %s (%s)\n' "$interface" "$mac" "$address" "$length" "${gateway:-none}" "$source"
}

while [ $# -gt 0 ]; do
  case $1 in
    --*=*) # --option=value as --option value
      both=$1
      shift
      set -- "${both%%=*}" "${both#*=}" ${1+"$@"} # bash 4.0 takes none at all for an unset variable
      ;;
  esac
  case $1 in
    -n | --dry-run | --print) dry=yes ;;
    --identity) show=yes ;;
    --decode)
      shift
      [ $# -gt 0 ] || misused '--decode needs a MAC, or - to read them from standard input.'
      decode_all "$@"
      exit
      ;;
    --persist | --hostname | --probes | --wait | --channels)
      [ $# -gt 1 ] || misused "$1 needs a value."
      case $1=$2 in
        --persist=networkd | --persist=networkmanager | --persist=netplan | --persist=ifupdown) persist=$2 ;;
        --persist=ifcfg | --persist=auto | --persist=none) persist=$2 ;;
        --hostname=auto | --hostname=keep) naming=$2 ;;
        --hostname=-* | --hostname=*[!A-Za-z0-9%-]* | --hostname=*%*%* | --hostname=*-)
          misused "'$2' is no pattern for host names: use letters, digits and -, and one %."
          ;;
        --hostname=?????????????????????????????????????????????????*)
          misused "'$2' makes names longer than a host name can be: use 48 characters at the most."
          ;;
        --hostname=*%*) naming=$2 ;;
        --probes=[0-9] | --wait=[0-9] | --wait=[1-9][0-9] | --wait=[1-9][0-9][0-9])
          case $1 in --probes) probes=$2 ;; *) wait=$2 ;; esac
          ;;
        --channels=none) channels='' ;;
        --channels=?*)
          IFS=,
          # shellcheck disable=SC2086
          channels=$(printf '%s ' $2)
          IFS=$plain_ifs
          for one in $channels; do
            case $one in fw_cfg | smbios | xenstore) ;; *) misused "'$one' is no channel." ;; esac
          done
          ;;
        *) misused "'$2' is no value for $1." ;;
      esac
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    --version)
      echo 'mac2ip (macbind @VERSION@)'
      exit 0
      ;;
    *) misused "'$1' is not understood." ;;
  esac
  shift
done

[ "$dry" = yes ] || [ "$(id -u 2>/dev/null || echo 0)" = 0 ] || fail 6 'Run it as root.'
settle
[ -n "$plan" ] || fail "$problem" "$why"
name_it
if [ "$show" = yes ]; then
  identity_lines
  exit 0
fi
choose_manager
command -v ip >/dev/null 2>&1 || fail 1 'There is no ip on this machine; install iproute2, or busybox with ip.'
trap 'undo; exit 1' HUP INT TERM
settled
probe_all
if comes; then
  each announce
else
  configure_all
fi
rename
persist_all
remember
if [ "$manager" != networkmanager ] || ! enabled NetworkManager.service; then # which does that, too
  resolve_all
fi
settled
each report
exit 0
