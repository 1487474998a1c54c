"""Programs of other users, who may not enter every directory that ours lie in."""

import pwd
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

_NEEDED = (Path(__file__).parents[2], Path(sys.prefix), Path(sys.base_prefix))
"""What Python needs to run the package under test."""
# In a mount namespace of the command's own: CLOSED is covered by an empty directory that everybody may enter, and
# what is needed of it appears at its place again.
_OPEN = """
closed=$1 count=$2
shift 2
mount -t tmpfs -o mode=755 tmpfs /mnt
number=0
for path in "$@"; do
  [ "$number" -lt "$count" ] || break
  number=$((number + 1))
  mkdir "/mnt/$number"
  mount --rbind "$path" "/mnt/$number"
done
mount -t tmpfs -o mode=755 tmpfs "$closed"
number=0
while [ "$number" -lt "$count" ]; do
  number=$((number + 1))
  mkdir -p "$1"
  mount --rbind "/mnt/$number" "$1"
  shift
done
exec "$@"
"""


def as_user(name: str, *argv: str) -> list[str]:
    """The command as this user, with all groups of that user, wherever the checkout and Python lie."""
    command = ["setpriv", f"--reuid={name}", f"--regid={pwd.getpwnam(name).pw_gid}", "--init-groups", *argv]
    closed = closed_to_others(_NEEDED)
    if closed is None:
        return command
    inside = sorted({str(path) for path in _NEEDED if path.is_relative_to(closed)})
    opened = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", _OPEN, "sh"]
    return [*opened, str(closed), str(len(inside)), *inside, *command]


def closed_to_others(paths: Iterable[Path]) -> Path | None:
    """The outermost directory on the way to these that others may not enter; None if they may enter all."""
    ways: Sequence[Path] = [way for path in paths for way in (*reversed(path.parents), path)]
    return next((way for way in ways if not way.stat().st_mode & stat.S_IXOTH), None)
