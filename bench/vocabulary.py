"""Generate class names for a large vocabulary."""

import itertools

QUALITIES = (
    "amber, ancient, azure, bright, broken, carved, coarse, dark, dusty, faded, frosted, gilded, "
    "glossy, grey, hollow, ivory, narrow, painted, pale, polished, rusty, scarlet, striped, tiny, "
    "worn"
)
MATERIALS = (
    "bamboo, brass, brick, canvas, ceramic, clay, copper, cotton, glass, granite, iron, leather, "
    "linen, marble, paper, rubber, silver, steel, wicker, wool"
)
THINGS = (
    "anchor, basket, bell, bench, bottle, bowl, box, bridge, broom, bucket, cage, candle, cart, "
    "chair, clock, column, crown, cup, door, drum, fence, flag, fountain, gate, hammer, hat, kite, "
    "ladder, lamp, lantern, mask, pillar, plate, rope, statue, stool, table, tower, vase, wheel"
)


def many_class_names(number: int) -> list[str]:
    """Return the first ``number`` of 20,000 different class names."""
    lists = [text.split(", ") for text in (QUALITIES, MATERIALS, THINGS)]
    names = (" ".join(parts) for parts in itertools.product(*lists))
    return list(itertools.islice(names, number))
