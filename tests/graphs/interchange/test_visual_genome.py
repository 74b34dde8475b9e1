import json
from collections import Counter

import pytest
from hypothesis import given, settings

from data_prep.tiny_scenes import HEIGHT, WIDTH
from tbkin.graphs.build import picture_graph
from tbkin.graphs.interchange import read_graphs, write_graphs
from tbkin.graphs.interchange.visual_genome import (
    read_region_descriptions,
    read_visual_genome,
    write_visual_genome,
)
from tests.graphs.strategies import pictures

SIZES = [{"image_id": 7, "width": 100, "height": 50}, {"image_id": 8, "width": 60, "height": 60}]


def thing(number, name, box, **more):
    x, y, w, h = box
    return {"object_id": number, "x": x, "y": y, "w": w, "h": h, "names": [name], **more}


DOG = thing(1, "Dog", (10, 10, 20, 20), merged_object_ids=[], synsets=["dog.n.01"])
MAN = thing(2, " man ", (50, 5, 60, 40), merged_object_ids=[22])  # reaches to 110 of 100
LINE = thing(3, "line", (0, 0, 0, 9), merged_object_ids=[])  # no area
OBJECTS = [{"image_id": 7, "objects": [DOG, LINE, MAN], "image_url": ""}]
TRUTH = {
    "labels": ["dog", "man"],
    "boxes": [[10, 10, 30, 30], [50, 5, 100, 45]],
    "attributes": [["brown", "old"], []],
    "relations": [(1, "holding", 0)],
}


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, content in {"image_data": SIZES, **files}.items():
        if content is not None:
            (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def read(path, **options):
    counts = Counter()
    return list(read_visual_genome(path, counts, **options)), +counts


def facts(regions):
    return {
        "labels": regions.labels,
        "boxes": regions.boxes.tolist(),
        "attributes": [[name for name, _ in found] for found in regions.attributes],
        "relations": [(subject, name, end) for subject, name, end, _ in regions.relations],
    }


def held(subject, other, number=1):
    return {"relationship_id": number, "predicate": "HOLDING ", "subject": subject, "object": other}


NAMED = {key: value for key, value in DOG.items() if key != "names"} | {"name": "dog"}
WITH = {**DOG, "attributes": ["Brown", "old ", "brown"]}
GENERATIONS = {
    "attributes beside the objects": {
        "objects": OBJECTS,
        "attributes": [{"image_id": 7, "attributes": [WITH, MAN, LINE]}],
        "relationships": [{"image_id": 7, "relationships": [held(MAN, DOG)]}],
    },
    "name in place of names, ids called id": {
        "image_data": [{"id": 7, "width": 100, "height": 50}],
        "objects": [{"id": 7, "objects": [NAMED, LINE, {**MAN, "name": "man", "names": []}]}],
        "attributes": [{"id": 7, "attributes": [WITH]}],
        "relationships": [{"id": 7, "relationships": [held({**MAN, "name": "man"}, NAMED)]}],
    },
    "attributes one level deeper": {
        "objects": OBJECTS,
        "attributes": [
            {"image_id": 7, "attributes": [{"image_id": 7, "object_id": 1, "attribute": WITH}]}
        ],
        "relationships": [{"image_id": 7, "relationships": [held(MAN, DOG)]}],
    },
    "a relation by an id that was merged": {
        "objects": OBJECTS,
        "attributes": [{"image_id": 7, "attributes": [WITH]}],
        "relationships": [{"image_id": 7, "relationships": [held({**MAN, "object_id": 22}, DOG)]}],
    },
    "scene graphs": {
        "scene_graphs": [
            {
                "image_id": 7,
                "objects": [WITH, LINE, MAN],
                "relationships": [{"predicate": "holding", "subject_id": 2, "object_id": 1}],
            }
        ],
    },
    "scene graphs with attributes of the picture": {
        "scene_graphs": [
            {
                "image_id": 7,
                "objects": [DOG, LINE, MAN],
                "attributes": [{"object_id": 1, "attribute": WITH}],
                "relationships": [{"predicate": "holding", "subject_id": 22, "object_id": 1}],
            }
        ],
    },
}


@pytest.mark.parametrize("files", GENERATIONS.values(), ids=GENERATIONS.keys())
def test_every_generation_tells_the_same(tmp_path, files):
    (regions,), counts = read(write(tmp_path / "vg", **files))
    assert facts(regions) == TRUTH
    assert (regions.width, regions.height, regions.image_id) == (100, 50, "7")
    assert counts["boxes cut to the picture"] == 1
    assert counts["boxes without area in the picture dropped"] == 1


def test_relations_of_dropped_and_of_unlisted_objects_are_dropped_and_counted(tmp_path):
    relations = [
        {"predicate": "on", "subject_id": 1, "object_id": 3},
        {"predicate": "on", "subject_id": 1, "object_id": 99},
        {"predicate": "On", "subject_id": 1, "object_id": 2},
        {"predicate": "on ", "subject_id": 1, "object_id": 2},
    ]
    entry = {"image_id": 7, "objects": [DOG, LINE, MAN], "relationships": relations}
    (regions,), counts = read(write(tmp_path / "vg", scene_graphs=[entry]))
    assert regions.relations == [(0, "on", 1, 1.0)]
    assert counts["relations of dropped boxes dropped"] == 1
    assert counts["relations of objects that are not listed dropped"] == 1
    assert counts["relations said twice merged"] == 1


def test_an_object_that_only_a_relation_mentions_is_kept(tmp_path):
    cat = thing(9, "cat", (0, 0, 5, 5))
    files = {"relationships": [{"image_id": 7, "relationships": [held(cat, DOG)]}]}
    (regions,), _ = read(write(tmp_path / "vg", objects=OBJECTS, **files))
    assert regions.labels == ["dog", "man", "cat"]
    assert regions.relations == [(2, "holding", 0, 1.0)]


def test_an_object_listed_again_under_an_id_that_was_merged_is_one(tmp_path):
    again = thing(22, "person", (51, 5, 60, 40))
    entry = {"image_id": 7, "objects": [DOG, MAN, again], "relationships": []}
    (regions,), counts = read(write(tmp_path / "vg", scene_graphs=[entry]))
    assert regions.labels == ["dog", "man"]
    assert "objects merged into others" not in counts  # 22 was known from the start
    backwards = {**entry, "objects": [again, DOG, MAN]}
    (regions,), counts = read(write(tmp_path / "vg", scene_graphs=[backwards]))
    assert regions.labels == ["person", "dog"]
    assert counts["objects merged into others"] == 1


def test_capitals_stay_on_request(tmp_path):
    files = GENERATIONS["attributes beside the objects"]
    (regions,), _ = read(write(tmp_path / "vg", **files), lowercase=False)
    assert regions.labels == ["Dog", "man"]
    assert regions.relations == [(1, "HOLDING", 0, 1.0)]
    assert [name for name, _ in regions.attributes[0]] == ["Brown", "old", "brown"]


def test_broken_pictures_are_dropped_unless_asked_for(tmp_path):
    sizes = [{"image_id": number, "width": 9, "height": 9} for number in (1592, 1722, 4616, 5)]
    graphs = [{"image_id": one["image_id"], "objects": [], "relationships": []} for one in sizes]
    folder = write(tmp_path / "vg", scene_graphs=graphs, image_data=sizes)
    found, counts = read(folder)
    assert [regions.image_id for regions in found] == ["5"]
    assert counts == {"broken pictures dropped": 3}
    assert len(read(folder, broken="keep")[0]) == 4


def test_files_in_another_order_are_joined_by_picture(tmp_path):
    objects = [*OBJECTS, {"image_id": 8, "objects": [thing(5, "cup", (0, 0, 9, 9))]}]
    attributes = [
        {"image_id": 9, "attributes": []},
        {"image_id": 8, "attributes": [{**thing(5, "cup", (0, 0, 9, 9)), "attributes": ["red"]}]},
        {"image_id": 7, "attributes": [WITH]},
    ]
    found, counts = read(write(tmp_path / "vg", objects=objects, attributes=attributes))
    assert found[0].attributes[0] == [("brown", 1.0), ("old", 1.0)]
    assert found[1].attributes == [[("red", 1.0)]]
    assert counts["pictures of attributes.json that objects.json does not list"] == 1


def test_pictures_come_before_the_file_is_read_to_its_end(tmp_path):
    folder = write(tmp_path / "vg", scene_graphs=[])
    entry = {"image_id": 7, "objects": [DOG], "relationships": []}
    text = "[" + (json.dumps(entry) + ", ") * 3000 + "nonsense"
    (folder / "scene_graphs.json").write_text(text)
    stream = read_visual_genome(folder, Counter())
    assert [next(stream).labels for _ in range(100)] == [["dog"]] * 100
    with pytest.raises(ValueError, match=r"scene_graphs\.json is not the JSON expected"):
        list(stream)


def test_sizes_that_are_missing(tmp_path):
    folder = write(tmp_path / "vg", objects=OBJECTS, image_data=None)
    with pytest.raises(FileNotFoundError, match=r"no .*image_data\.json: .*image_data=FILE.*sizes"):
        read(folder)
    elsewhere = tmp_path / "sizes.json"
    elsewhere.write_text(json.dumps(SIZES))
    assert read(folder, image_data=str(elsewhere))[0][0].width == 100
    (regions,), counts = read(folder, sizes="boxes")
    assert (regions.width, regions.height) == (110, 45)  # MAN ends at 50 + 60 and 5 + 40
    assert "boxes cut to the picture" not in counts
    elsewhere.write_text(json.dumps(SIZES[1:]))
    with pytest.raises(LookupError, match=r"sizes\.json does not list picture 7, which .*objects"):
        read(folder, image_data=str(elsewhere))


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([{"objects": []}], r"objects\.json, entry 0: .*image_id"),
        ([{"image_id": 7}], r"objects\.json, entry 0: .*'objects'"),
        ([{"image_id": 7, "objects": [{"x": 1}]}], r"picture 7: not laid out .*object_id"),
        ([{"image_id": 7, "objects": [{"object_id": 1, "x": 1}]}], r"picture 7: .*width"),
        (
            [{"image_id": 7, "objects": [thing(1, "a", (0, 0, "wide", 1))]}],
            r"picture 7, object 1: a box is four numbers, got \(0, 0, 'wide', 1\)",
        ),
    ],
)
def test_other_layouts_are_named(tmp_path, objects, message):
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path / "vg", objects=objects))


def test_wrong_options_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no objects\.json and no scene_graphs\.json in"):
        read(tmp_path)
    with pytest.raises(ValueError, match="unknown sizes 'guess'; choose from: boxes, image_data"):
        read(tmp_path, sizes="guess")
    with pytest.raises(ValueError, match="unknown broken 'mend'; choose from: drop, keep"):
        read(tmp_path, broken="mend")


def test_region_descriptions(tmp_path):
    def region(number, phrase, box):
        names = ("x", "y", "width", "height")
        return {"region_id": number, "phrase": phrase, **dict(zip(names, box, strict=True))}

    regions = [
        region(1, "a  dog\nruns", (10, 10, 20, 20)),
        region(2, "the sky", (-5, 0, 200, 10)),
        region(3, "nothing", (5, 5, 0, 3)),
    ]
    folder = write(tmp_path / "vg", region_descriptions=[{"id": 7, "regions": regions}])
    counts = Counter()
    assert list(read_region_descriptions(folder, counts)) == [
        ("7", "1", "a dog runs", (10, 10, 30, 30)),
        ("7", "2", "the sky", (0, 0, 100, 10)),
    ]
    assert counts["descriptions without area or words dropped"] == 1
    assert counts["boxes cut to the picture"] == 1
    write(folder, region_descriptions=[{"id": 5, "regions": regions}])
    with pytest.raises(LookupError, match=r"picture 5 of .* no known size"):
        list(read_region_descriptions(folder / "region_descriptions.json"))


def test_the_tiny_world_is_read_as_it_was_drawn(tiny_root):
    folder = tiny_root.official / "visual_genome"
    truth = json.loads((folder / "objects.json").read_text())
    attributes = json.loads((folder / "attributes.json").read_text())
    relations = json.loads((folder / "relationships.json").read_text())
    graphs = list(read_graphs(folder))
    assert len(graphs) == len(truth) == 40
    for graph, entry, described, related in zip(graphs, truth, attributes, relations, strict=True):
        assert (graph.image_id, graph.width, graph.height) == (
            str(entry["image_id"]),
            WIDTH,
            HEIGHT,
        )
        ids = [one["object_id"] for one in entry["objects"]]
        regions = [graph.nodes[place] for place in graph.of_type("region")]
        assert [node.label for node in regions] == [one["names"][0] for one in entry["objects"]]
        assert [node.box for node in regions] == [
            (one["x"], one["y"], one["x"] + one["w"], one["y"] + one["h"])
            for one in entry["objects"]
        ]
        said = {
            (edge.source, graph.nodes[edge.target].label)
            for edge in graph.edges
            if edge.type == "attribute"
        }
        assert said == {
            (place, name)
            for place, one in enumerate(described["attributes"])
            for name in one["attributes"]
        }
        told = [
            (ids[edge.source], edge.predicate, ids[edge.target])
            for edge in graph.edges
            if edge.type == "relation"
        ]
        assert told == [
            (one["subject"]["object_id"], one["predicate"], one["object"]["object_id"])
            for one in related["relationships"]
        ]
        assert {edge.type for edge in graph.edges} <= {"attribute", "relation"}
    assert list(read_graphs(folder / "scene_graphs.json")) == graphs


@settings(max_examples=25, deadline=None)
@given(regions=pictures(scores=False))
def test_graphs_survive_the_layout(tmp_path_factory, regions):
    graph = picture_graph(regions, geometry=False)
    path = tmp_path_factory.mktemp("vg") / "vg"
    assert write_graphs(path, [graph], "visual_genome") == 1
    assert list(read_graphs(path, lowercase=False, broken="keep")) == [graph]


def test_what_the_layout_cannot_hold_is_counted(tmp_path, regions):
    counts = Counter()
    graph = picture_graph(regions)
    text_only = type(graph)(words=["a"])
    folder = tmp_path / "vg"
    assert write_visual_genome(folder, [graph, text_only, graph], counts) == 1
    assert +counts == {
        "graphs without a picture left out": 1,
        "graphs of a picture already written left out": 1,
        "scores below 1 left out": 4,
        "spatial and overlap edges left out": sum(
            edge.type in ("spatial", "overlap") for edge in graph.edges
        ),
    }
    entry = json.loads((folder / "scene_graphs.json").read_text())[0]
    assert entry["image_id"] == 7
    assert entry["objects"][0] == {
        "object_id": 1, "x": 10, "y": 40, "w": 10, "h": 10,
        "names": ["circle"], "synsets": [], "attributes": ["red", "small"],
    }  # fmt: skip
    assert entry["relationships"][0]["subject_id"] == 1
    assert entry["relationships"][0]["object_id"] == 2


def test_a_failed_write_leaves_nothing(tmp_path, regions):
    def failing():
        yield picture_graph(regions)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_graphs(tmp_path / "vg", failing(), "visual_genome")
    assert list(tmp_path.iterdir()) == []
