import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbkin.graphs.facts import graph_of_facts, read_facts
from tbkin.graphs.knowledge import (
    CooccurrencePrior,
    build_prior,
    describe,
    head_lemma,
    text_edges,
    weigh_text_edges,
)
from tbkin.graphs.scene_graph import Edge, Node, SceneGraph

REFERENCE = Path(__file__).resolve().parents[3] / "shared/reference/rosita_tiny/skm_case.json"


def facts(text):
    return graph_of_facts(read_facts(text))


def word(label, role, index, **changes):
    return Node("word", label, index, role, **changes)


def weights(graph):
    """(object, what joins it, other end) -> weight."""
    return {
        (
            graph.nodes[edge.source].label,
            edge.predicate,
            graph.nodes[edge.target].label,
        ): edge.weight
        for edge in graph.edges
    }


def test_frequencies_worked_by_hand():
    graphs = [
        facts("( dogs , is , brown ) , ( dogs , chase , frisbee ) , ( frisbee , is , red )"),
        facts("( dog , is , brown ) , ( dog , is , 2 )"),
        facts("( dog ) , ( cat , on , mat )"),
        facts("( hot dog )"),
    ]
    # Four dogs (a hot dog counts by its head), two of them brown, one of them chasing.
    assert build_prior(graphs) == CooccurrencePrior(
        attr_count={"dog": {"2": 1 / 4, "brown": 2 / 4}, "frisbee": {"red": 1.0}},
        rel_count={
            "cat": {"on mat": 1.0},
            "dog": {"chase frisbee": 1 / 4},
            "frisbee": {"dog chase": 1.0},
            "mat": {"cat on": 1.0},
        },
    )
    # Pairs that one object has are left out; dogs are four all the same.
    assert build_prior(graphs, min_count=2) == CooccurrencePrior({"dog": {"brown": 0.5}}, {})
    assert describe(build_prior(graphs)) == {"objects": 4, "attributes": 3, "relations": 4}
    assert build_prior([]) == CooccurrencePrior()


def test_an_object_has_a_phrase_once_and_what_is_denied_never():
    nodes = [
        word("dog", "object", 0),
        word("red", "attribute", 1),
        word("red", "attribute", 2),
        word("blue", "attribute", 3, negated=True),
        word("hat", "object", 4, negated=True),
        word("wear", "relation", 5),
        word("see", "relation", 6),  # its object is not known
    ]
    edges = [
        Edge(0, "is", 1, "attribute"),
        Edge(0, "is", 2, "attribute"),
        Edge(0, "is", 3, "attribute"),
        Edge(5, "subject", 0, "relation"),
        Edge(5, "object", 4, "relation"),
        Edge(6, "subject", 0, "relation"),
    ]
    graph = SceneGraph(nodes, edges, [str(number) for number in range(7)])
    prior = build_prior([graph])
    assert prior == CooccurrencePrior({"dog": {"red": 1.0}}, {"dog": {"see": 1.0}})
    weighed = weigh_text_edges(graph, prior)
    assert [edge.weight for edge in weighed.edges] == [0.7, 0.7, 0.2, 0.2, 0.2, 0.7]
    assert graph.edges == edges  # not changed


@pytest.mark.parametrize(
    ("p", "attribute", "relation"),
    [
        (0.0, 0.2, 0.2),
        (0.01, 0.25, 0.4),  # 5 x 0.01 + 0.2; 20 x 0.01 + 0.2
        (0.025, 0.325, 0.7),
        (0.1, 0.7, 0.7),
        (1.0, 0.7, 0.7),
    ],
)
def test_weights_worked_by_hand(p, attribute, relation):
    prior = CooccurrencePrior({"dog": {"brown": p}}, {"dog": {"on grass": p}, "grass": {}})
    found = weights(weigh_text_edges(facts("( dog , is , brown ) , ( dog , on , grass )"), prior))
    assert found["dog", "is", "brown"] == pytest.approx(attribute)
    assert found["on", "subject", "dog"] == pytest.approx(relation)
    assert found["on", "object", "grass"] == 0.2  # "dog on" was never seen


@pytest.mark.skipif(
    not REFERENCE.is_file(), reason="needs the reference values beside the checkout"
)
def test_rositas_own_values():
    case = json.loads(REFERENCE.read_text(encoding="utf-8"))["graph"]
    prior = CooccurrencePrior(case["attribute_prior"], case["relation_prior"])
    scene = case["scene_graph"]
    nodes, edges, place = [], [], {}

    def add(index, role):
        if index not in place:
            place[index] = len(nodes)
            nodes.append(word(case["words"][index], role, index))
        return place[index]

    for ((index,),) in scene["objs"]:
        add(index, "object")
    for (owner,), (index,) in scene["attrs"]:
        edges.append(Edge(add(owner, "object"), "is", add(index, "attribute"), "attribute"))
    for (subject,), (index,), (target,) in scene["rels"]:
        relation = add(index, "relation")
        edges.append(Edge(relation, "subject", add(subject, "object"), "relation"))
        edges.append(Edge(relation, "object", add(target, "object"), "relation"))
    graph = weigh_text_edges(SceneGraph(nodes, edges, case["words"]), prior)
    found = {}
    for number, owner, kind, phrase in text_edges(graph):
        weight = graph.edges[number].weight
        found[graph.nodes[owner].index, kind, phrase] = pytest.approx(weight, abs=1e-6)
    expected = {
        (edge["word"], edge["kind"], edge["phrase"]): edge["weight"] for edge in case["text_edges"]
    }
    assert len(expected) == 7
    assert found == expected


def test_file_is_rositas_and_survives(tmp_path):
    prior = build_prior([facts("( dog , is , brown ) , ( dog , on , éclair )")])
    path = tmp_path / "deep" / "prior.json"
    prior.save(path)
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "attr_count": {"dog": {"brown": 1.0}},
        "rel_count": {"dog": {"on éclair": 1.0}, "éclair": {"dog on": 1.0}},
    }
    assert CooccurrencePrior.load(path) == prior


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"is no co-occurrence table"),
        ('{"attr_count": {}}', r"\('rel_count'\); expected JSON with attr_count and rel_count"),
        ("[]", r"is no co-occurrence table"),
        (
            '{"attr_count": {"dog": {"red": 12}}, "rel_count": {}}',
            r"attr_count\['dog'\]\['red'\] must be a frequency in \[0, 1\], got 12",
        ),
        ('{"attr_count": {"dog": 1}, "rel_count": {}}', r"is no co-occurrence table"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        CooccurrencePrior.load(path)


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no co-occurrence table .*tbkin prep knowledge"):
        CooccurrencePrior.load(tmp_path / "none.json")


NAMES = st.sampled_from(["dog", "hot dog", "cat", "mat", "red", "on", "3"])
FACTS = st.lists(
    st.one_of(
        st.tuples(NAMES), st.tuples(NAMES, st.just("is"), NAMES), st.tuples(NAMES, NAMES, NAMES)
    ),
    max_size=5,
)


@given(st.lists(FACTS, max_size=5))
def test_frequencies_and_weights_are_in_range_whatever_is_said(said):
    graphs = [graph_of_facts(one) for one in said]
    prior = build_prior(graphs)  # checks the frequencies itself
    for graph in graphs:
        weighed = weigh_text_edges(graph, prior)
        assert weighed.nodes == graph.nodes
        for edge in weighed.edges:
            assert 0.2 < edge.weight <= 0.7  # all was seen


def test_head_lemma():
    assert head_lemma("alarm clocks") == "clock"
    assert head_lemma(" ") == ""


def test_an_end_of_a_relation_that_is_no_object_counts_too():
    nodes = [
        Node("word", "dark", 0, "attribute"),
        Node("word", "on", 1, "relation"),
        Node("word", "light", 2, "object"),
    ]
    edges = [Edge(1, "subject", 0, "relation"), Edge(1, "object", 2, "relation")]
    prior = build_prior([SceneGraph(nodes, edges, ["dark", "on", "light"])])
    assert prior.rel_count == {"dark": {"on light": 1.0}, "light": {"dark on": 1.0}}
