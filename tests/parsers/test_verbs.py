import pytest

from tbkin.parsers.verbs import verb_lemma

FORMS = {
    "sit": "sits sat sitting Sitting seated",
    "lay": "lies lying lay laying laid lain",
    "ride": "rides rode ridden riding",
    "carry": "carries carried carrying",
    "fill": "fills filled filling",
    "stop": "stops stopped stopping",
    "travel": "traveling travelled travels",
    "decorate": "decorated decorating",
    "eat": "eats ate eaten eating",
    "float": "floated floating",
    "dress": "dressed dresses dressing",
    "go": "goes going went gone",
    "cover": "covered covering covers",
    "use": "used using uses",
    "graze": "grazing grazes",
    "be": "is are was were been being",
    "have": "has had having",
    "ski": "skiing",
    "sing": "singing sang",
    "tie": "tied tying",
}


@pytest.mark.parametrize(
    ("form", "base"), [(form, base) for base, forms in FORMS.items() for form in forms.split()]
)
def test_the_base_form_of_a_verb(form, base):
    assert verb_lemma(form) == base


@pytest.mark.parametrize("word", ["", "a", "ing", "ed", "s", "thing", "红色", "bus"])
def test_what_is_no_verb_is_left_whole(word):
    assert verb_lemma(word) == word
