"""A bare Debian to try the project in, as somebody has it who has just installed one: `python -m bare`.

- `bare.settings`  what of this machine's settings it needs to download: mirror, package index, proxy, certificates
- `bare.root`      its file system: a copy of a minimal Debian that is thrown away afterwards
- `bare.__main__`  the command line (`make bare`)
- `enter`          its first process, which makes the file system the only one there is

Only the standard library is used: nothing has been installed for the project when this runs.
"""
