import pytest

from tbkin.graphs.kinds import CODES, KINDS, NUM_KINDS, kind_of
from tbkin.graphs.relations import INVERSE
from tbkin.graphs.scene_graph import SPATIAL_PREDICATES, Edge


def name_of(predicate, kind, weight=1.0, from_region=False):
    code, swapped = kind_of(Edge(0, predicate, 1, kind, weight), from_region)
    return KINDS[code], swapped


@pytest.mark.parametrize(
    ("predicate", "kind", "weight", "from_region", "expected"),
    [
        ("left of", "spatial", 1.0, True, ("left of", False)),
        ("right of", "spatial", 1.0, True, ("left of", True)),
        ("below", "spatial", 1.0, True, ("above", True)),
        ("around", "spatial", 1.0, True, ("inside", True)),
        ("overlaps", "overlap", 0.3, True, ("overlaps", False)),
        ("is", "attribute", 0.3, True, ("region is attribute", False)),
        ("is", "attribute", 1.0, False, ("word is attribute", False)),
        ("subject", "relation", 1.0, False, ("relation subject", False)),
        ("object", "relation", 1.0, False, ("relation object", False)),
        ("riding", "relation", 0.8, True, ("detected relation", False)),
        ("object", "alignment", 0.9, False, ("aligned object", False)),  # 0.9 is strong
        ("object", "alignment", 0.89, False, ("weakly aligned object", False)),
        ("relation", "alignment", 1.0, False, ("aligned relation", False)),
        ("relation", "alignment", 0.5, False, ("weakly aligned relation", False)),
        ("count", "alignment", 1.0, False, ("aligned count", False)),
        ("count", "alignment", 0.5, False, ("weakly aligned count", False)),
        ("attribute", "alignment", 0.5, False, ("aligned attribute", False)),
    ],
)
def test_kind_of_an_edge(predicate, kind, weight, from_region, expected):
    assert name_of(predicate, kind, weight, from_region) == expected


def test_a_predicate_and_its_inverse_are_one_kind_in_two_directions():
    for predicate in SPATIAL_PREDICATES:
        name, swapped = name_of(predicate, "spatial", from_region=True)
        inverse_name, inverse_swapped = name_of(INVERSE[predicate], "spatial", from_region=True)
        assert name == inverse_name
        assert swapped != inverse_swapped


def test_codes_number_the_kinds_and_their_inverses():
    assert len(set(KINDS)) == len(KINDS)
    assert [CODES[name] for name in KINDS] == list(range(len(KINDS)))
    assert 2 * len(KINDS) == NUM_KINDS
