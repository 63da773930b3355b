"""The online path of Driftloop. What a pipeline file needs is here, in one place."""

from streams.spec import *  # noqa: F403 - the same names by a shorter path
from streams.spec import __all__ as __all__
