"""What else people call a thing: names of one thing, and kinds of a thing (*ours*).

Two tables, written by hand around what captions talk of and detectors name. The words are
lemmas; a comma ends a name.
"""

from __future__ import annotations

from functools import lru_cache

# Names of one and the same thing.
SYNONYMS = (
    "person, people, human, somebody, someone",
    "man, guy, gentleman, dude",
    "woman, lady",
    "child, kid, youngster",
    "baby, infant",
    "bicycle, bike, cycle, push bike, pedal bike",
    "motorcycle, motorbike, motor bike, dirt bike, scooter, moped",
    "airplane, plane, aeroplane, jet, aircraft, jetliner, airliner",
    "boat, ship",
    "car, automobile, auto",
    "train, locomotive",
    "truck, lorry",
    "trash can, garbage can, trash bin, rubbish bin, wastebasket",
    "couch, sofa, loveseat, settee",
    "tv, television, screen, monitor, tv set, television set",
    "cell phone, phone, cellphone, mobile, mobile phone, smartphone, telephone, iphone",
    "laptop, notebook computer, laptop computer, macbook",
    "remote, remote control, controller",
    "dining table, table, desk, dinner table, kitchen table, dining room table",
    "potted plant, plant, houseplant",
    "sports ball, ball",
    "refrigerator, fridge, icebox, freezer",
    "microwave, microwave oven",
    "oven, stove, range, cooker",
    "teddy bear, teddy, stuffed bear, plush bear",
    "hair drier, hair dryer, blow dryer, hairdryer",
    "donut, doughnut",
    "hot dog, hotdog, frankfurter",
    "orange, mandarin, tangerine, clementine",
    "toilet, commode, lavatory",
    "sink, washbasin, basin, wash basin",
    "backpack, rucksack, knapsack, book bag",
    "handbag, purse, pocketbook",
    "luggage, baggage",
    "tie, necktie",
    "frisbee, flying disc, disc, disk",
    "skis, ski",
    "tennis racket, racket, racquet",
    "cup, mug",
    "scissors, scissor, shears",
    "cow, cattle",
    "sheep, lamb, ewe",
    "horse, pony, foal, mare, stallion",
    "traffic light, stoplight, stop light, traffic signal",
    "fire hydrant, hydrant, fireplug",
    "picture, photo, photograph, image",
    "road, street, roadway",
    "sidewalk, pavement, side walk",
    "rock, stone, boulder",
    "hill, hillside",
    "grass, lawn",
    "bush, shrub, hedge",
    "ocean, sea",
    "eyeglasses, glasses, spectacles, eye glasses",
    "pants, trousers, slacks",
    "jeans, blue jeans, denim",
    "t-shirt, tee shirt, tshirt",
    "sweater, jumper, pullover",
    "sneaker, trainer, tennis shoe",
    "cap, baseball cap",
    "drawer, dresser drawer",
    "cabinet, cupboard",
    "bathtub, tub, bath tub",
    "faucet, tap",
    "curtain, drape",
    "rug, carpet",
    "cookie, cooky, biscuit",
    "fries, french fry, fry",
    "large, big, huge",
    "small, little, tiny",
    "gray, grey",
)

# A thing and its kinds; a kind may have kinds of its own.
KINDS = {
    "person": "man, woman, child, baby, adult, male, female, couple, pedestrian",
    "child": "boy, girl, baby, toddler",
    "animal": "dog, cat, horse, cow, sheep, bird, elephant, bear, zebra, giraffe, goat, pig, fish, "
    "monkey, rabbit, deer, lion, tiger, duck, squirrel, fox, wolf, camel, turtle, frog",
    "dog": "puppy, pup, doggy, hound, poodle, terrier, retriever, labrador, bulldog, dalmatian",
    "cat": "kitten, kitty, tabby",
    "bird": "duck, goose, swan, pigeon, dove, seagull, gull, parrot, parakeet, owl, eagle, hawk, "
    "crow, vulture, peacock, chicken, rooster, hen, turkey, penguin, canary, ostrich, flamingo, "
    "pelican, heron, sparrow",
    "cow": "bull, calf, ox, steer",
    "sheep": "ram",
    "horse": "colt",
    "bear": "cub, polar bear, panda, grizzly",
    "vehicle": "car, truck, bus, train, bicycle, motorcycle, airplane, boat, helicopter, tractor",
    "car": "taxi, cab, sedan, suv, minivan, jeep, convertible, hatchback",
    "truck": "pickup, pickup truck, semi",
    "boat": "sailboat, canoe, kayak, ferry, yacht, rowboat, dinghy, gondola",
    "train": "subway, tram",
    "luggage": "suitcase, backpack, handbag",
    "bag": "handbag, backpack, suitcase",
    "furniture": "chair, couch, bed, table, desk, bench, dresser, cabinet, shelf",
    "chair": "armchair, stool, recliner, rocking chair",
    "seat": "chair, bench, couch, stool",
    "food": "pizza, sandwich, hot dog, cake, donut, fruit, vegetable, bread, cheese, meat, egg, "
    "rice, pasta, salad, soup, cookie, fries, noodle",
    "sandwich": "burger, hamburger, cheeseburger, sub, panini",
    "cake": "cupcake, birthday cake, cheesecake",
    "fruit": "apple, orange, banana, pear, grape, strawberry, lemon, lime, pineapple, peach, "
    "watermelon, grapefruit, cherry",
    "vegetable": "broccoli, carrot, tomato, potato, onion, pepper, lettuce, cucumber, celery, corn",
    "utensil": "fork, knife, spoon, spatula, chopstick, ladle",
    "appliance": "refrigerator, oven, microwave, toaster, dishwasher, blender",
    "computer": "laptop, desktop computer",
    "tv": "computer monitor",
    "glass": "wine glass, drinking glass, goblet",
    "sports ball": "baseball, football, basketball, volleyball, soccer ball, tennis ball, "
    "beach ball",
    "board": "surfboard, skateboard, snowboard",
    "plant": "flower, bush, fern, cactus, succulent",
    "flower": "rose, tulip, daisy, sunflower, lily",
    "tree": "palm tree, pine tree, palm, evergreen",
    "building": "house, church, barn, skyscraper, hotel, cottage, shed",
    "clothing": "shirt, pants, jacket, dress, skirt, hat, shoe, sock, tie, coat, sweater, jeans, "
    "shorts, glove, scarf, suit, helmet, cap, boot, t-shirt",
    "shirt": "t-shirt, blouse, polo shirt, tank top, jersey",
    "jacket": "coat, blazer, parka, hoodie",
    "shoe": "sneaker, boot, sandal, flip flop, slipper, heel",
    "hat": "cap, cowboy hat, beanie, helmet, straw hat",
    "toy": "teddy bear, doll, lego",
}

# Things that are not one another, although their kind is no name for them.
APART = ("circle, square, triangle, star, cross, rectangle, oval, diamond, pentagon, hexagon",)

# What somebody does: any of them may be the man or the girl that a detector names.
ROLES = frozenset(
    """player batter catcher pitcher umpire referee skateboarder skier snowboarder surfer rider
    driver passenger bicyclist cyclist biker motorcyclist athlete worker employee chef cook baker
    waiter waitress student teacher officer policeman cop soldier fireman tourist spectator fan
    customer guest friend bride groom mother father mom dad mommy daddy husband wife brother sister
    parent son daughter performer dancer singer musician farmer pilot coach boarder swimmer walker
    runner jogger hiker golfer janitor professional coworker elder equestrian cowboy""".split()
)
PEOPLE = frozenset({"man", "woman", "boy", "girl", "child", "adult"})

# Compounds that are not what their last word says: a hot dog is no dog.
NOT_ITS_HEAD = frozenset(
    """hot dog, corn dog, sea horse, seahorse, rocking horse, saw horse, sea lion, guinea pig,
    piggy bank, phone booth, fire truck bed, truck bed, flower bed, river bed, train car,
    toilet bowl, bird bath, dog food, cat food, dog house, tree house, clock face, hair net,
    mouse pad, tank top,
    table top, counter top, stove top, roof top, power plant, computer mouse, egg plant,
    paper plane, snow man, snowman, gingerbread man, light house, end zone, home plate,
    license plate, number plate, name plate, tooth brush, paint brush, hair brush, parking lot,
    office park, skate park, eye glass, burger king, table cloth, sign post""".replace(
        "\n", " "
    ).split(",")
)
NOT_ITS_HEAD = frozenset(" ".join(name.split()) for name in NOT_ITS_HEAD)


def _names(row: str) -> list[str]:
    return [" ".join(name.split()) for name in row.split(",")]


# Any of a thing's names -> the first of its row.
FIRST_NAME = {name: names[0] for names in map(_names, SYNONYMS) for name in names}


def first_name(name: str) -> str:
    """One name for all names of a thing: "sofa" -> "couch"; others stay as they are."""
    return FIRST_NAME.get(name, name)


_APART = [frozenset(_names(row)) for row in APART]
_PARENTS: dict[str, set[str]] = {}
for _thing, _row in KINDS.items():
    for _kind in _names(_row):
        _PARENTS.setdefault(first_name(_kind), set()).add(first_name(_thing))
for _role in ROLES:
    _PARENTS.setdefault(_role, set()).add("person")


_KNOWN = FIRST_NAME.keys() | _PARENTS.keys() | KINDS.keys()


def usual_spelling(name: str) -> str:
    """The spelling that the tables have: "skate board" -> "skateboard"."""
    squeezed = name.replace(" ", "").replace("-", "")
    return squeezed if name not in _KNOWN and squeezed in _KNOWN else name


@lru_cache(maxsize=10_000)
def is_kind_of(name: str) -> dict[str, int]:
    """Everything that a thing is a kind of -> how many steps up; itself at 0.

    Args:
        name: a lemma; of a thing with several names, any.
    """
    steps = {first_name(name): 0}
    waiting = list(steps)
    for one in waiting:  # grows while it is walked: breadth first
        for parent in sorted(_PARENTS.get(one, ())):
            if parent not in steps:
                steps[parent] = steps[one] + 1
                waiting.append(parent)
    return steps


def may_be_one(name: str, other: str) -> bool:
    """Whether one says what somebody does, and the other who it is: "player" and "girl"."""
    pair = (name, other)
    return any(one in ROLES and first_name(two) in PEOPLE for one, two in (pair, pair[::-1]))


@lru_cache(maxsize=10_000)
def are_different(name: str, other: str) -> bool:
    """Whether the tables know two names as different things: two kinds of one, neither the other.

    Word vectors of such pairs (cat and dog) are near, since people talk of both alike.
    """
    if may_be_one(name, other) or {name, other} <= ROLES:
        return False
    up, other_up = is_kind_of(name), is_kind_of(other)
    if first_name(name) in other_up or first_name(other) in up:
        return False
    if any({name, other} <= row for row in _APART):
        return True
    return bool(up.keys() & other_up.keys())
