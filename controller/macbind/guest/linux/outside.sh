
# outside: whether the gateway is outside of the address's subnet.
outside() {
  number "$gateway"
  wanted=$number
  number "$address"
  [ $((wanted >> (32 - length))) != $((number >> (32 - length))) ]
}

# number ADDRESS: sets $number, which orders addresses. In old shells numbers have 32 bits and a sign.
number() {
  IFS=.
  set -- $1
  IFS=$plain_ifs
  number=$((($1 - 128) * 16777216 + $2 * 65536 + $3 * 256 + $4))
}
