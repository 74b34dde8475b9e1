"""Base forms of English verbs, without any model: what names a relation ("sits" -> "sit")."""

from __future__ import annotations

from functools import lru_cache

# Base form -> its irregular forms. "Lie" and "lay" are one verb to people who write captions, and
# to FACTUAL's annotators: "lay".
_FORMS = {
    "be": "am is are was were been being 's 're",
    "bear": "bore borne",
    "beat": "beaten",
    "begin": "began begun beginning",
    "bend": "bent",
    "bind": "bound",
    "bite": "bit bitten",
    "blow": "blew blown",
    "break": "broke broken",
    "bring": "brought",
    "build": "built",
    "burn": "burnt",
    "buy": "bought",
    "catch": "caught",
    "choose": "chose chosen",
    "come": "came",
    "do": "does did done",
    "draw": "drew drawn",
    "drink": "drank drunk",
    "drive": "drove driven",
    "eat": "ate eaten",
    "fall": "fell fallen",
    "feed": "fed",
    "fight": "fought",
    "find": "found",
    "fly": "flew flown",
    "freeze": "froze frozen",
    "get": "got gotten",
    "give": "gave given",
    "go": "goes went gone",
    "grow": "grew grown",
    "hang": "hung hanged",
    "have": "has had having 've",
    "hear": "heard",
    "hide": "hid hidden",
    "hold": "held",
    "keep": "kept",
    "kneel": "knelt",
    "know": "knew known",
    "lay": "laying laid lain lie lies lied lying lays",
    "lead": "led",
    "lean": "leant",
    "leave": "left leaving",
    "light": "lit",
    "lose": "lost",
    "make": "made",
    "meet": "met",
    "pay": "paid",
    "ride": "rode ridden",
    "ring": "rang rung",
    "rise": "rose risen",
    "run": "ran",
    "say": "said",
    "see": "saw seen seeing",
    "sell": "sold",
    "send": "sent",
    "shake": "shook shaken",
    "shine": "shone",
    "shoot": "shot",
    "show": "shown",
    "sing": "sang sung",
    "sink": "sank sunk sunken",
    "sit": "sat seat seated seating seats",
    "sleep": "slept",
    "slide": "slid",
    "speak": "spoke spoken",
    "spin": "spun",
    "stand": "stood",
    "steal": "stole stolen",
    "stick": "stuck",
    "strike": "struck",
    "string": "strung",
    "sweep": "swept",
    "swim": "swam swum",
    "swing": "swung",
    "take": "took taken",
    "teach": "taught",
    "tear": "tore torn",
    "tell": "told",
    "think": "thought",
    "throw": "threw thrown",
    "tie": "tying tied",
    "wear": "wore worn",
    "weave": "wove woven",
    "wind": "wound",
    "write": "wrote written",
}
_IRREGULAR = {form: base for base, forms in _FORMS.items() for form in forms.split()}

# Bases that the endings alone do not tell: with a final e, or a doubled consonant of their own.
_WITH_E = frozenset(
    """achieve admire advertise advise amaze approve argue arrange arrive bake balance bathe
    bite blaze bounce brace brake browse bundle canoe capture care carve cascade cause cave
    celebrate change charge chase circle close come commute compare compete complete compose
    create cruise cube cuddle curve cycle dance dangle date decide declare decline decorate
    describe dice die dine dive divide double drape dribble drive dye encase enclose engage
    escape examine excite exercise explode explore face fade feature file fire force frame
    freeze gauge gaze gesture give glare glaze glide glue grate graze grimace grove guide hide
    hike hope hose house hustle ice illuminate image include indicate inflate inscribe invite
    involve issue joke judge juggle lace leave like line live lodge lounge love make manage
    measure merge mine mingle move navigate nestle nibble nose notice nuzzle observe operate
    outline overtake pace paddle page parachute parade paste pause phone pile place plaque
    please plunge poke pose praise prepare preserve probe produce promise promote protrude
    provide prune puzzle queue race raise rake realize recline recycle reduce refuse relate
    release remove replace rescue reserve ride rinse rise rope rule saddle sample saute save
    scale scare schedule score scrape secure seize separate serve settle shade shake shape share
    shave shine shoe shove shuffle sidle size skate slice slide smile smoke snake snooze
    snowmobile snuggle solve space sparkle spike splice sprinkle square squeeze stage stare
    state store strike stripe stroke struggle style surface surprise swipe tackle take tape
    taste tease telephone tickle tie tile time toe toggle trace trade transcribe translate
    tumble tune type unite use utilize vase voice vote wade wake waste wave wedge welcome
    whistle wipe wire wrestle wrinkle write""".split()
)
# Stems whose doubled consonant is their own ("filling" -> "fill", but "sitting" -> "sit").
_OWN_DOUBLES = ("ll", "ss", "zz", "ff", "dd")
_DOUBLED_L = frozenset("travell signall labell cancell modell paddl".split())
# Stems that English seldom writes without a final e.
_SOFT_ENDS = (
    "iz", "uc", "dg", "rg", "nc", "rc", "v", "bl", "gl", "tl", "dl", "ckl", "zl", "kl", "pl",
    "fl", "s", "u",
)  # fmt: skip
_VOWELS = "aeiou"


@lru_cache(maxsize=100_000)
def verb_lemma(word: str) -> str:
    """The base form of an English verb, lower case: "sitting" -> "sit", "lies" -> "lay"."""
    word = word.lower()
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _FORMS or word in _WITH_E:
        return word
    if word.endswith("ing") and _has_vowel(word[:-3]):
        return _base(word[:-3])
    if word.endswith("ied") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("ed") and _has_vowel(word[:-2]):
        return _base(word[:-2])
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zzes", "oes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        return word[:-1]
    return word


def _has_vowel(stem: str) -> bool:
    return len(stem) > 1 and any(letter in _VOWELS + "y" for letter in stem)


def _base(stem: str) -> str:
    """What is left of a verb without -ing or -ed, with a final e where it had one."""
    if stem + "e" in _WITH_E:
        return stem + "e"
    if len(stem) > 2 and stem[-1] == stem[-2] and stem[-1] not in _VOWELS:
        own = stem.endswith(_OWN_DOUBLES) and stem not in _DOUBLED_L
        return stem if own else stem[:-1]
    if stem.endswith("at") and len(stem) > 4 and stem[-3] not in _VOWELS:
        return stem + "e"  # "decorating", not "eating" or "floating"
    if stem.endswith(_SOFT_ENDS) and not stem.endswith(("ss", "us")):
        return stem + "e"
    return stem
