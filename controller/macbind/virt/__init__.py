"""libvirt: which domains exist now, and the machines we start ourselves. Needs libvirt-python, nothing else does."""
