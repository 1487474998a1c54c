
# mask_of LENGTH: sets $mask.
mask_of() {
  mask='' bits=$1
  for _ in 1 2 3 4; do
    octet=$((bits >= 8 ? 255 : 256 - (1 << (8 - bits))))
    mask=$mask${mask:+.}$octet bits=$((bits >= 8 ? bits - 8 : 0))
  done
}
