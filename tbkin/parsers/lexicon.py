"""Closed lists of English words that both rule parsers share.

They hold what a grammar holds: numbers, pronouns, prepositions of several words, and the classes
of noun and verb on which the reading of a phrase depends ("a man in a hat" wears it, "a man in a
car" does not). Names of relations and what counts as a name follow FACTUAL's annotation, read from
its training part.
"""

from __future__ import annotations

# --- Function words

NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
        fifteen sixteen seventeen eighteen nineteen twenty""".split()
    )
}
FUNCTION_WORDS = frozenset(
    """a an the this that these those some any no every each all both
    is are was were be been being do does did has have had can could will would should may might
    there here it its he she his her their they we you your i my
    what which who whom whose where when why how many much
    and or but if of to from for as not than then so very too also""".split()
)
# Words that no noun phrase without an article starts with.
OPENERS = FUNCTION_WORDS | NUMBERS.keys() | frozenset(
    """another other several few inside at in on by with under over near behind above below next
    it's""".split()
)  # fmt: skip
DEFINITE = frozenset("the this that these those his her its their my your our".split())
# Say which or how much, but describe nothing.
IGNORED = frozenset(
    """many several some few various multiple numerous other another same different certain such
    own more most much any all both each every lot couple only single whole entire first main
    assorted additional""".split()
)
# What a question asks for: no object of the picture.
ASKED = frozenset("color colour shape size kind type number time".split())

# Whom a pronoun names where the text does not say it; FACTUAL's annotators do the same, and write
# "person" for "guy".
RENAMED = {
    "he": "man", "him": "man", "himself": "man", "she": "woman", "herself": "woman",
    "they": "people", "everyone": "people", "everybody": "people",
    "someone": "person", "somebody": "person", "anyone": "person",
    "guy": "person", "guys": "people",
}  # fmt: skip

# Prepositions that may end a relative clause: "the chair the dog is on".
STRANDED = frozenset(
    """on in at under over with from inside near by behind against beside through above
    around""".split()
)

# --- Names and attributes

COLOURS = frozenset(
    """white black blue green red brown yellow gray grey orange silver pink tan purple beige gold
    golden maroon navy teal turquoise blond blonde violet cream lavender magenta peach aqua
    bronze""".split()
)
SHADES = frozenset("light dark bright pale deep navy royal baby lime sky hot neon dull".split())
COLOURED = frozenset("colored coloured color colour".split())
# Nouns that describe the noun after them: what it is made of, or its pattern.
ATTRIBUTE_NOUNS = frozenset(
    """metal wood brick glass stone plastic concrete cement leather dirt gold pine rock paper gravel
    steel iron chrome marble granite tile straw rubber denim wicker cotton lace silk clay mud brass
    copper aluminum stainless porcelain ceramic wii wine laptop baby ocean utility adult male female
    square oval circle round plaid floral toy stripe overhead folding""".split()
)
TWO_WORD_ATTRIBUTES = frozenset(
    {("chain", "link"), ("double", "decker"), ("cream", "colored"), ("close", "up")}
)
# Adjectives and participles that belong to a name ("right hand", "hot dog").
NAMING = frozenset(
    """left right front back upper lower hot polar living cutting dining parking french side remote
    washing cooking swimming shopping sliding ski skate mobile traffic""".split()
)
# "No" before these forbids something on a sign, and denies nothing.
FORBIDDEN = frozenset("parking entry smoking turn".split())
SPELLINGS = {"t shirt": "t-shirt", "tee shirt": "t-shirt"}
WRITTEN_FOR = {"wood": "wooden", "multi colored": "multi-colored"}
NOUNS_IN_ING = frozenset(
    """building railing clothing icing topping frosting painting ceiling wing string lighting
    crossing flooring bedding awning siding writing lettering earring ring king thing morning
    evening wedding stuffing landing opening covering paneling""".split()
)

# --- Parts and wholes

# "X Y" is X's Y when X is an owner and Y a part: "clock face".
OWNERS = frozenset(
    """man woman boy girl person child baby player people clock tree bus car train truck plane
    airplane jet motorcycle bike bicycle boat elephant giraffe zebra horse cow dog cat bear bird
    sheep laptop oven toilet chair bed bathroom kitchen window door building house lamp sleeve
    kite surfboard skateboard""".split()
)
PARTS = frozenset(
    """head face hair eye ear nose mouth neck arm leg hand foot finger tail trunk wing mane back
    beak body tooth tongue chin cheek shoulder knee wrist tusk horn hoof paw fur tip
    wheel door window windshield roof engine bumper headlight mirror handle seat leaf branch top
    screen keyboard lid stem frame edge base bottom side wall floor ceiling tire
    feather whisker hump antler claw stump bark nostril eyebrow beard lip forehead toe thumb nail
    ankle waist elbow chest belly stomach hip thigh spot crust""".split()
)
HAVING = frozenset("leg sleeve hair leaf eye arm wheel".split())  # "four legged", "short sleeved"
# What stands before "of" and only says how much of what follows; the attribute that it leaves.
PARTITIVES = {
    "group": "group of", "piece": "piece", "pieces": "pieces", "slice": "slice",
    "slices": "slices", "pile": "pile", "patch": "patch", "patches": "patches", "part": "part",
    **dict.fromkeys(
        """bunch bunches pair pairs set sets groups lot lots herd couple row rows some all many
        several most both each kind kinds type types sort sorts one clump cluster flock stack number
        variety amount layer""".split(),
        "",
    ),
}  # fmt: skip
# "A glass of water": the water is in it.
CONTAINERS = {
    "plate": "on", "tray": "on",
    **dict.fromkeys(
        "glass bottle bowl cup mug can jar vase box basket bag line picture photo".split(), "in"
    ),
}  # fmt: skip
GARMENTS = frozenset(
    """shirt t-shirt tshirt jacket suit coat dress pants uniform shorts hat jeans outfit cap sweater
    clothes clothing glasses tie helmet apron vest costume sunglasses blouse attire robe skirt
    sneaker veil trunk slack shoe boot sock glove scarf hoodie jersey swimsuit bikini wetsuit
    wet-suit pajama goggle sandal tuxedo tux gown overall sweatshirt legging tights khaki
    bandana belt kimono gear headband mask turban bra raincoat beanie tee""".split()
)
WORN_WITH = frozenset("glasses sunglasses shirt t-shirt shorts suit goggles".split())
HAD_WITH = frozenset("hand hands arm foot feet nose mouth fingers ears mustache".split())
# "Holding a bat in the air": the bat is there.
HELD_IN = frozenset("hand hands air mouth hold carry have".split())

# --- Verbs (base forms) and who does them

ANIMATE = frozenset(
    """man woman boy girl person people child kid guy lady player baby surfer skier skateboarder
    snowboarder batter catcher umpire pitcher couple men women toddler officer rider skater
    pedestrian tourist worker chef cook waiter waitress driver cyclist motorcyclist biker
    gentleman female male crowd spectator fan athlete cowboy teenager adult bride groom mother
    father son daughter someone he she they cop policeman policemen hitter runner swimmer
    passenger pilot family group
    dog cat horse cow elephant giraffe zebra sheep bear bird duck goat animal puppy kitten
    bull calf seagull pigeon lamb monkey deer goose""".split()
)
# What only people and animals do: "a man in shorts holding a bat".
AGENTIVE = frozenset(
    """hold wear ride carry play eat watch look walk swing catch hit throw talk read drink use smile
    surf ski skate skateboard snowboard jump run stand sit drive graze serve sleep kneel bend
    pull push kick feed sniff lick pet point wait cross""".split()
)
COVERING = frozenset("cover surround".split())
PERCEIVING = frozenset("have get watch help see let make keep".split())
RESTING = frozenset("park stand sit lay lean place locate leave stop".split())
MOTION = frozenset(
    """go walk run drive ride climb ski look come jump step get move fly skateboard board
    snowboard""".split()
)
# Adverbs that name a way ("down the road"), and those that name a state ("the seat is up").
PATHS = frozenset("down over along around past through across under behind".split())
STATES = frozenset("up down outside open inside off on".split())
# Verbs whose particle belongs to their meaning.
PARTICLES = frozenset(
    {("stick", "out"), ("pick", "up"), ("lead", "up"), ("come", "out"), ("look", "out")}
)

# --- For the parser without a model

ADJECTIVES = COLOURS | frozenset(
    """large small big little tall short long old young new wooden metal open closed empty full
    dark light bright round striped plaid wet dry dirty clean hot cold happy sad visible thick
    thin wide narrow high low clear cloudy sunny grassy snowy sandy rocky green blonde bald
    curly straight colorful brick plastic paved bare huge tiny asleep awake alone ready busy
    crowded rusty shiny soft hard flat broken ripe fresh raw cooked furry fluffy""".split()
)
# Nouns that begin names of two nouns: "tennis court".
NAME_NOUNS = frozenset(
    """tennis baseball street teddy fire toilet power city trash water living coffee palm video
    soccer snow food cell license train table bus passenger pizza flower lamp police home mountain
    window garbage telephone tank bed hotel door book office wall stop paper computer clock
    kitchen bathroom tree birthday eye soap game road picnic tooth phone base cheese ice sail wind
    surf t tee air bowling""".split()
)
# What else is read as a verb where one may stand; bases that are mostly nouns or adjectives in
# captions ("light", "clean") are left out.
VERBS = frozenset(
    """see have attach hang fill line touch fly make reflect stick support use contain paint float
    border face overlook mount throw tie grow cut lead talk work pull show wrap top display connect
    stack balance perch dress write print reach lick kick grab chase follow prepare shine rest
    sell decorate build serve cast drape topple lounge pose brush separate put place cross enter
    enjoy board land taxi gather crouch squat bite chew wash cook dangle scatter swim dive slide
    splash pile bend tilt perform approach""".split()
)
KNOWN_VERBS = AGENTIVE | RESTING | MOTION | COVERING | VERBS
