"""Captions: what a thing is made of and what happens to it, in varied words."""

import numpy as np

from .scene import Actor, Scene

_UNNAMED = 0.1  # share of captions that leave the material to the picture
ADJECTIVES = {
    "wood": ("wooden", "wood", "solid wooden"),
    "metal": ("metal", "steel", "iron"),
    "glass": ("glass", "clear glass"),
    "rubber": ("rubber", "soft rubber"),
    "stone": ("stone", "rock", "heavy stone"),
}
# Each takes the noun with its material, the article included.
_ONE = {
    "drop": ("{} falls and hits the floor", "{} drops to the ground", "{} lands on the floor with a single hit"),
    "hammer": ("a hammer hits {} once", "{} is struck by a hammer", "one blow of a hammer on {}"),
    "knock": ("someone knocks once on {}", "a single knock on {}", "a fist hits {}"),
    "roll": ("{} rolls and bumps into a post", "{} rolls across the floor and hits something"),
}
_MANY = {
    "drop": ("{} falls and bounces", "{} bounces on the floor", "{} drops and bounces several times"),
    "hammer": ("a hammer hits {} again and again", "hammering on {}", "{} is struck by a hammer several times"),
    "knock": ("someone knocks on {}", "knocking at {}", "a fist knocks on {} several times"),
}
_NONE = {
    "roll": ("{} rolls across the floor", "{} rolls over the ground", "rolling of {}"),
    "rest": ("{} lies still, silence", "a quiet room with {}", "nothing happens to {}, no sound"),
    "hammer": ("a hammer swings without hitting {}, silence", "a hammer stops short of {}, no sound"),
    "knock": ("a hand stops short of {}, silence", "a hand waves in front of {}, no sound"),
}


def caption(scene: Scene) -> str:
    """A sentence for the scene, the same for the same seed; "a quiet room" where nothing acts."""
    rng = np.random.default_rng([scene.seed, 4])
    named = rng.random() >= _UNNAMED
    parts = [_phrase(rng, actor, named) for actor in _in_order(scene)]
    return rng.choice([", then ", " and ", ", "]).join(parts) or "a quiet room"


def _in_order(scene: Scene) -> list[Actor]:
    def begin(actor: Actor) -> float:
        return min([event.time for event in actor.events] + [time for time in (actor.rolling or ())[:1]], default=0.0)

    return sorted(scene.actors, key=begin)


def _phrase(rng: np.random.Generator, actor: Actor, named: bool) -> str:
    words = f"{rng.choice(ADJECTIVES[actor.material])} {actor.thing}" if named else actor.thing
    article = "an" if words[0] in "aeiou" else "a"
    phrases = (_NONE, _ONE, _MANY)[min(len(actor.events), 2)]
    return str(rng.choice(phrases[actor.action])).format(f"{article} {words}")
