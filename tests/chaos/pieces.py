"""How large the pieces are that macbind cuts its work into: tiny and odd, by the seed, at each start anew.

Speed may depend on them and nothing else, so every check holds with any of them. A crowd needs the usual ones: dhcpd
forgets it so often that pieces of one would take all the time.
"""

import random
from collections.abc import Mapping
from dataclasses import fields

TINY = (1, 2, 3, 7)


def draw(seed: int, site: str, start: int) -> Mapping[str, int]:
    """The sizes of one start, by name; what is not named has the usual size."""
    from macbind.core.sizes import Sizes

    luck = random.Random(f"{seed} {site} {start} pieces")
    drawn = {field.name: luck.choice((*TINY, None)) for field in fields(Sizes)}
    return {name: size for name, size in drawn.items() if size is not None}
