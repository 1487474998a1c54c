
fw_cfg() {
  file=/sys/firmware/qemu_fw_cfg/by_name/opt/org.macbind/identity/raw
  [ -e /sys/firmware/qemu_fw_cfg ] || modprobe -q qemu_fw_cfg 2>/dev/null
  [ ! -r "$file" ] || cat "$file"
}
