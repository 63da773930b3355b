"""The worlds by name. Card fraud's is simulated, by days, and has its own command (`produce`)."""

from __future__ import annotations

from streams.errors import ConfigurationError
from workers.worlds.digits import DIGITS, SMALL_DIGITS
from workers.worlds.films import CHOICES, FILMS
from workers.worlds.groceries import GROCERIES
from workers.worlds.liver import LIVER
from workers.worlds.machine import MACHINE
from workers.worlds.mail import MAIL
from workers.worlds.speech import SPEECH
from workers.worlds.world import DataWorld

WORLDS = {
    world.name: world
    for world in (DIGITS, SMALL_DIGITS, MAIL, FILMS, CHOICES, LIVER, GROCERIES, MACHINE, SPEECH)
}


def find_world(name: str) -> DataWorld:
    """The world of this name.

    Raises:
        ConfigurationError: there is none; says which there are.
    """
    if name not in WORLDS:
        raise ConfigurationError(f"no world named {name!r} - use one of {', '.join(WORLDS)}")
    return WORLDS[name]
