
report() {
  printf 'mac2ip: %s %s %s/%s gateway %s (%s)\n' "$interface" "$mac" "$address" "$length" "${gateway:-none}" "$source"
}

dry=no probes=2 wait=0 begun=: rank=0 stopped=no
#:hostname naming=auto
#:files state=/run/macbind copies=0
#:channels show=no channels='@CHANNELS@'
#:manager manager=@MANAGER@ managers='@MANAGERS@'
if [ "${1-}" = --decode ] && [ $# -gt 1 ]; then
  shift
  decode_all "$@"
fi
for option; do
  case $option in
    -n | --dry-run) dry=yes ;;
    --probes=[0-9]) probes=${option#*=} ;;
    --wait=[0-9] | --wait=[1-9][0-9] | --wait=[1-9][0-9][0-9]) wait=${option#*=} ;;
#:channels     --identity) show=yes ;;
#:hostname     --hostname=auto | --hostname=keep) naming=${option#*=} ;;
#:hostname     --hostname=*%*)
#:hostname       naming=${option#*=}
#:hostname       case $naming in # a host name has at most 63 characters, an address 15
#:hostname         -* | *[!A-Za-z0-9%-]* | *%*%* | *- | ?????????????????????????????????????????????????*)
#:hostname           fail 2 "'$naming' is no pattern for host names; see --help."
#:hostname           ;;
#:hostname       esac
#:hostname       ;;
    -h | --help) usage && exit ;;
    --version) echo 'mac2ip (macbind @VERSION@)' && exit ;;
    *) say "'$option' is not understood." && usage >&2 && exit 2 ;;
  esac
done

[ "$dry" = yes ] || [ "$(id -u 2>/dev/null || echo 0)" = 0 ] || fail 6 'Run it as root.'
left=$((wait * 10))
until survey && [ "$plan" != ' ' ] || [ "$left" -le 0 ]; do pause; done
[ "$left" = $((wait * 10)) ] || survey # A NIC that has come meanwhile may have another name now.
#:channels [ -z "$refusals" ] || say "$refusals"
[ "$plan" != ' ' ] || [ -z "$refused" ] || fail 4 "No NIC is configured.$refused"
[ "$plan" != ' ' ] || fail 3 "No NIC has a MAC of the pools, which begin with @PREFIXES@. The NICs are:${seen:- none}."
#:hostname name_it
#:channels [ "$show" = no ] || { identity_lines && exit; }
#:auto choose_manager
command -v ip >/dev/null 2>&1 || fail 1 'This machine has no ip; install iproute2, or busybox with ip.'
trap 'stopped=yes' HUP INT TERM # between a change and its `later` it must not end
#:files clear_copies
each probe
#:networkmanager if comes; then each announce; else each configure; fi
#:plain each configure
#:hostname rename
#:manager persist_all
#:channels remember
#:networkmanager sets_dns || resolve
#:plain resolve
begun=:
#:files clear_copies
each report
