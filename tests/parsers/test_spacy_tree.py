"""Trees built by hand: these run without spaCy and without a model."""

from itertools import pairwise

from tbkin.parsers.spacy_mends import mend
from tbkin.parsers.spacy_places import find_places
from tbkin.parsers.spacy_relations import Relations
from tbkin.parsers.spacy_sentence import Sentence
from tbkin.parsers.spacy_tree import LONGEST_LIST, Word, written


def tree(text):
    """Words of "word/TAG/dep>head" tokens; the head is a position, itself for the root."""
    words, heads, number = [], [], 0
    for place, token in enumerate(text.split()):
        low, tag, rest = token.split("/")
        dep, head = rest.split(">")
        counts = tag != "HYPH"
        words.append(Word(place, number if counts else -1, low, low, tag, dep))
        heads.append(int(head))
        number += counts
    for word, head in zip(words, heads, strict=True):
        if head != word.place:
            word.head = words[head]
            words[head].children.append(word)
    for before, word in pairwise(words):
        word.hyphen = before.text == "-"
    return words


def claims(text):
    words = tree(text)
    mend(words)
    relations = Relations(Sentence(words))
    return {(one.subject.low, one.label, one.target.low) for one in relations.claims}


def test_a_glued_participle_becomes_a_clause():
    # As read: "lantern" the root, "girl" and "holding" its modifiers.
    text = "girl/NN/compound>2 holding/VBG/amod>2 lantern/NN/ROOT>2"
    assert claims(text) == {("girl", "hold", "lantern")}


def test_an_opening_participle_becomes_an_attribute():
    words = tree("parked/VBD/ROOT>0 cars/NNS/dobj>0 near/IN/prep>0 a/DT/det>4 curb/NN/pobj>2")
    mend(words)
    parked, cars, near, _, _ = words
    assert (cars.head, parked.head, parked.dep, near.head) == (None, cars, "amod", cars)


def test_have_is_the_verb_of_its_noun():
    text = "the/DT/det>1 bowl/NN/nsubj>3 has/VBZ/aux>3 cherries/NNS/ROOT>3"
    assert claims(text) == {("bowl", "have", "cherries")}


def test_a_relative_clause_without_a_pronoun():
    text = (
        "the/DT/det>1 sofa/NN/nsubj>5 the/DT/det>3 cats/NNS/nsubj>5 are/VBP/aux>5 "
        "sitting/VBG/ROOT>5 on/RP/prt>5"
    )
    assert claims(text) == {("cats", "sit on", "sofa")}


def test_a_preposition_of_several_words_hangs_from_what_its_first_word_hangs_from():
    words = tree("bus/NN/ROOT>0 in/IN/prep>0 front/NN/pobj>1 of/IN/prep>2 a/DT/det>5 car/NN/pobj>3")
    (place,) = find_places(words)
    assert (place.label, place.governor, place.target) == ("in front of", words[0], words[5])
    assert place.content is words[2]


def test_a_word_is_never_hung_below_itself():
    first, second, third = tree("a/NN/ROOT>0 b/NN/dep>0 c/NN/dep>1")
    first.attach(third, "dep")
    second.attach(second, "dep")
    assert (first.head, second.head, third.head) == (None, first, second)
    third.attach(first, "dep")
    assert [word.low for word in first.children] == ["b", "c"]


def test_a_list_has_an_end():
    chain = " ".join(f"w{place}/NN/conj>{max(0, place - 1)}" for place in range(3000))
    assert len(tree(chain)[0].conjuncts()) == LONGEST_LIST


def test_hyphens_are_written_as_the_text_has_them():
    words = tree("white/JJ/amod>3 t/NN/compound>3 -/HYPH/punct>3 shirt/NN/ROOT>3")
    assert written([words[3], words[1]]) == "t-shirt"
    assert written([words[0], words[3]]) == "white shirt"
